"""The check of a host: what servicing needs, what is there, and advice on what is missing.

Nothing is mounted or changed. Facts of Windows alone are `not known here` on the emulated host.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from imagetool.contracts import Host, Reportable
from imagetool.host.check.findings import UNKNOWN, HostFinding, State
from imagetool.host.check.path_check import PathCheck, volume_finding
from imagetool.host.configuration.address import ConfiguredHost

_MAX_CLOCK_DIFFERENCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, repr=False)
class HostReport(Reportable):
    """The findings of a check."""

    host: ConfiguredHost
    path: str
    findings: tuple[HostFinding, ...]
    trials: tuple[HostFinding, ...] | None = None
    """The findings of the self-test, where it ran."""

    @property
    def usable(self) -> bool:
        """True if no finding is a failure."""
        return all(
            finding.state is not State.FAILED for finding in (*self.findings, *(self.trials or ()))
        )

    @property
    def holds(self) -> bool:
        """True if the host is usable."""
        return self.usable

    def __repr__(self) -> str:
        return f"HostReport({self.host.name!r}, usable={self.usable})"


def check_host(
    host: ConfiguredHost,
    open_session: Callable[[], Host],
    path: str = "",
    *,
    self_test: bool = False,
) -> HostReport:
    """Check a host, and `path`, an image or a directory there.

    With `self_test` the self-test runs as well, and names of people and machines are redacted in
    the whole report. Raises HostFailed where the host cannot be reached.
    """
    begun = time.monotonic()
    with open_session() as session:
        findings = tuple(_Check(host, session, path, time.monotonic() - begun).findings())
        if not self_test:
            return HostReport(host, path, findings)
        from imagetool.host.check.redaction import redactor
        from imagetool.host.check.self_test import run_self_test

        redact = redactor(host, session, path)
        trials = run_self_test(session)
    return HostReport(
        replace(host, name=redact(host.name), url=redact(host.url)),
        redact(path),
        tuple(_redacted(finding, redact) for finding in findings),
        tuple(_redacted(finding, redact) for finding in trials),
    )


def _redacted(finding: HostFinding, redact: Callable[[str], str]) -> HostFinding:
    return replace(finding, found=redact(finding.found), advice=redact(finding.advice))


class _Check:
    """One check of a host; each private method gives the findings on one subject."""

    def __init__(self, host: ConfiguredHost, session: Host, path: str, seconds: float) -> None:
        self._host = host
        self._session = session
        self._path = path
        self._connect_seconds = seconds
        before = datetime.now(UTC)
        self._facts: Mapping[str, object] = session.operate("facts")
        self._local_time = before + (datetime.now(UTC) - before) / 2

    def findings(self) -> Iterator[HostFinding]:
        """Yield all findings, in the order of the report."""
        yield self._reached()
        yield from self._account()
        yield from self._engine()
        yield from self._modules()
        yield self._dism()
        temporary = self._text("temporary")
        yield volume_finding(self._session, "temporary", temporary, access_paths=True)
        if self._path:
            yield from PathCheck(self._host, self._session, self._path).findings()
        yield self._iso()
        yield self._clock()

    def _text(self, name: str) -> str:
        value = self._facts.get(name)
        return str(value) if value else ""

    # Connection and account

    def _reached(self) -> HostFinding:
        host, took = self._host, f"in {self._connect_seconds:.1f} s"
        if not host.remote:
            what = "emulated by imagetool" if self._session.emulated else "this machine"
            return HostFinding("reached", State.OK, f"{what}, {took}")
        if host.url.startswith("http:"):
            return HostFinding(
                "reached",
                State.NOTE,
                f"{host.origin}, {took}; plain http, messages encrypted by {host.transport}",
                "Nothing proves which host this is: https with a certificate does.",
            )
        if not host.validate:
            return HostFinding(
                "reached",
                State.NOTE,
                f"{host.origin}, {took}; its certificate is not validated",
                "Whoever is in between could pretend to be it: name the certificate that signed it "
                "(certificate = FILE) in place of validate = false.",
            )
        against = f" against {host.certificate}" if host.certificate else ""
        return HostFinding(
            "reached", State.OK, f"{host.origin}, {took}; certificate validated{against}"
        )

    def _account(self) -> Iterator[HostFinding]:
        yield HostFinding("user", State.OK, self._text("user"))
        kind = self._text("authentication")
        if self._host.remote and kind.upper() == "NTLM" and self._session.on_windows:
            yield HostFinding(
                "authentication",
                State.NOTE,
                kind,
                "From there this logon reaches no shares: for images on one use "
                'transport = "credssp", or "kerberos" with delegate = true.',
            )
        else:
            asked = f"{self._host.transport}, " if self._host.remote else ""
            yield self._finding_if_known("authentication", kind and asked + kind)
        elevated, filtered = self._facts.get("elevated"), self._facts.get("filtered")
        if elevated is None:
            yield HostFinding("rights", State.NOTE, UNKNOWN)
        elif elevated:
            yield HostFinding("rights", State.OK, "an elevated administrator")
        elif filtered:
            yield HostFinding(
                "rights",
                State.FAILED,
                "an administrator whose token is filtered",
                _UNFILTER_HINT if self._host.remote else _ELEVATE_HINT,
            )
        else:
            yield HostFinding(
                "rights",
                State.FAILED,
                "not an administrator of the host",
                "Mounting and DISM need one: use another account, or add this one to Administrators"
                " (Hyper-V Administrators are not enough).",
            )

    @staticmethod
    def _finding_if_known(name: str, found: str) -> HostFinding:
        return (
            HostFinding(name, State.OK, found) if found else HostFinding(name, State.NOTE, UNKNOWN)
        )

    # PowerShell, Windows and modules

    def _engine(self) -> Iterator[HostFinding]:
        hello = self._session.hello
        yield HostFinding(
            "powershell", State.OK, f"{self._session.description}, {hello.get('edition')}"
        )
        language = str(hello.get("language"))
        full = language == "FullLanguage"
        yield HostFinding(
            "language",
            State.OK if full else State.FAILED,
            language,
            ""
            if full
            else "Application control restricts PowerShell there: install the "
            "session's script (docs/hosts.md).",
        )
        if self._session.on_windows:
            yield HostFinding("windows", State.OK, self._text("product") or self._text("system"))
        else:
            yield HostFinding(
                "windows",
                State.NOTE,
                f"not a Windows: {self._text('system')}",
                "Good for rehearsals; only a Windows services images.",
            )

    def _modules(self) -> Iterator[HostFinding]:
        listed = self._session.hello.get("modules")
        there = set(listed) if isinstance(listed, list) else set()
        for name, key in (("Hyper-V", "hyper-v"), ("Storage", "storage"), ("Dism", "dism-module")):
            if name in there:
                yield HostFinding(key, State.OK, f"the module {name} is there")
            elif name == "Hyper-V":
                yield HostFinding(
                    key,
                    State.NOTE,
                    "the module Hyper-V is not there",
                    "Images are read without it, and Mount-DiskImage mounts without it; Mount-VHD "
                    "and virtual machines need it: Enable-WindowsOptionalFeature -Online -All "
                    "-FeatureName Microsoft-Hyper-V-Management-PowerShell",
                )
            else:
                yield HostFinding(
                    key,
                    State.FAILED,
                    f"the module {name} is not there",
                    "Servicing needs it: every Windows since 8 and Server 2012 has it.",
                )

    def _dism(self) -> HostFinding:
        version = self._text("dism")
        if not self._session.on_windows:
            return HostFinding("dism", State.NOTE, UNKNOWN)
        if not version:
            return HostFinding(
                "dism", State.FAILED, "there is no dism.exe", "Repair the host's Windows."
            )
        return HostFinding("dism", State.OK, f"{version}; it services images up to its own version")

    # Installation media and clock

    def _iso(self) -> HostFinding:
        there = self._facts.get("iso")
        if there is None:
            return HostFinding("vmguest.iso", State.NOTE, UNKNOWN)
        if there:
            return HostFinding("vmguest.iso", State.OK, "in System32")
        return HostFinding(
            "vmguest.iso",
            State.NOTE,
            "not there: Windows has brought none since 2016",
            "Name the package with --package.",
        )

    def _clock(self) -> HostFinding:
        now = self._facts.get("now")
        if not isinstance(now, datetime):
            return HostFinding("clock", State.NOTE, UNKNOWN)
        apart = now - self._local_time
        if abs(apart) <= _MAX_CLOCK_DIFFERENCE:
            return HostFinding("clock", State.OK, f"{abs(apart.total_seconds()):.0f} s apart")
        side = "ahead of" if apart > timedelta() else "behind"
        return HostFinding(
            "clock",
            State.NOTE,
            f"{abs(apart.total_seconds()):.0f} s {side} this machine's",
            "Times in results come from both clocks, and Kerberos refuses more than five minutes: "
            "w32tm /resync",
        )


_UNFILTER_HINT = (
    "For a local account Windows filters it over the network, unless LocalAccountTokenFilterPolicy "
    "(DWORD, HKLM\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Policies\\System) is 1; a domain "
    "account in Administrators needs no such thing."
)
_ELEVATE_HINT = "Run imagetool as administrator."
