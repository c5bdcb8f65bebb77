"""Whether a host can be used: what was found there, and what to do about what is missing.

Nothing is mounted or changed. What only Windows knows is `not known here` on the emulated host.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from imagetool.host.check.findings import UNKNOWN, Row, State
from imagetool.host.check.places import Place, volume
from imagetool.host.configuration.address import Host
from imagetool.host.session import Session

_CLOCKS = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found."""

    host: Host
    path: str
    rows: tuple[Row, ...]
    trials: tuple[Row, ...] | None = None
    """Of the self-test, where it ran."""

    @property
    def usable(self) -> bool:
        """Whether nothing failed."""
        return all(row.state is not State.FAILED for row in (*self.rows, *(self.trials or ())))


def check_host(
    host: Host, open_session: Callable[[], Session], path: str = "", *, self_test: bool = False
) -> Checked:
    """Ask a host what it is; `path`, an image or a directory there, is looked at too.

    With `self_test` it is also tried out, and names of people and machines are taken out of all
    that is given. Raises HostFailed where the host cannot be reached.
    """
    begun = time.monotonic()
    with open_session() as session:
        rows = tuple(_Check(host, session, path, time.monotonic() - begun).rows())
        if not self_test:
            return Checked(host, path, rows)
        from imagetool.host.check.redaction import redactor
        from imagetool.host.check.self_test import try_out

        hidden = redactor(host, session, path)
        trials = try_out(session)
    return Checked(
        replace(host, name=hidden(host.name), url=hidden(host.url)),
        hidden(path),
        tuple(_hidden(row, hidden) for row in rows),
        tuple(_hidden(row, hidden) for row in trials),
    )


def _hidden(row: Row, hidden: Callable[[str], str]) -> Row:
    return replace(row, found=hidden(row.found), advice=hidden(row.advice))


class _Check:
    """One check: each method gives the rows of its subject."""

    def __init__(self, host: Host, session: Session, path: str, seconds: float) -> None:
        self._host = host
        self._session = session
        self._path = path
        self._seconds = seconds
        before = datetime.now(UTC)
        self._facts: Mapping[str, object] = session.operate("facts")
        self._middle = before + (datetime.now(UTC) - before) / 2

    def rows(self) -> Iterator[Row]:
        """All of them, in the order in which a person wants to know."""
        yield self._reached()
        yield from self._who()
        yield from self._engine()
        yield from self._modules()
        yield self._dism()
        temporary = self._text("temporary")
        yield volume(self._session, "temporary", temporary, access_paths=True)
        if self._path:
            yield from Place(self._host, self._session, self._path).rows()
        yield self._iso()
        yield self._clock()

    def _text(self, name: str) -> str:
        value = self._facts.get(name)
        return str(value) if value else ""

    # Reaching it

    def _reached(self) -> Row:
        host, took = self._host, f"in {self._seconds:.1f} s"
        if not host.remote:
            what = "emulated by imagetool" if host.name == "lab" else "this machine"
            return Row("reached", State.OK, f"{what}, {took}")
        if host.url.startswith("http:"):
            return Row(
                "reached", State.NOTE,
                f"{host.origin}, {took}; plain http, messages encrypted by {host.transport}",
                "Nothing proves which host this is: https with a certificate does.",
            )  # fmt: skip
        if not host.validate:
            return Row(
                "reached", State.NOTE, f"{host.origin}, {took}; its certificate is not validated",
                "Whoever is in between could pretend to be it: name the certificate that signed it "
                "(certificate = FILE) in place of validate = false.",
            )  # fmt: skip
        against = f" against {host.certificate}" if host.certificate else ""
        return Row("reached", State.OK, f"{host.origin}, {took}; certificate validated{against}")

    def _who(self) -> Iterator[Row]:
        yield Row("user", State.OK, self._text("user"))
        kind = self._text("authentication")
        if self._host.remote and kind.upper() == "NTLM" and self._session.on_windows:
            yield Row(
                "authentication", State.NOTE, kind,
                "From there this logon reaches no shares: for images on one use "
                'transport = "credssp", or "kerberos" with delegate = true.',
            )  # fmt: skip
        else:
            asked = f"{self._host.transport}, " if self._host.remote else ""
            yield self._known("authentication", kind and asked + kind)
        elevated, filtered = self._facts.get("elevated"), self._facts.get("filtered")
        if elevated is None:
            yield Row("rights", State.NOTE, UNKNOWN)
        elif elevated:
            yield Row("rights", State.OK, "an elevated administrator")
        elif filtered:
            yield Row("rights", State.FAILED, "an administrator whose token is filtered",
                      _UNFILTER if self._host.remote else _ELEVATE)  # fmt: skip
        else:
            yield Row(
                "rights", State.FAILED, "not an administrator of the host",
                "Mounting and DISM need one: use another account, or add this one to Administrators"
                " (Hyper-V Administrators are not enough).",
            )  # fmt: skip

    @staticmethod
    def _known(name: str, found: str) -> Row:
        return Row(name, State.OK, found) if found else Row(name, State.NOTE, UNKNOWN)

    # What runs there

    def _engine(self) -> Iterator[Row]:
        hello = self._session.hello
        yield Row("powershell", State.OK, f"{self._session.description}, {hello.get('edition')}")
        language = str(hello.get("language"))
        full = language == "FullLanguage"
        yield Row("language", State.OK if full else State.FAILED, language,
                  "" if full else "Application control restricts PowerShell there: install the "
                  "session's script (docs/hosts.md).")  # fmt: skip
        if self._session.on_windows:
            yield Row("windows", State.OK, self._text("product") or self._text("system"))
        else:
            yield Row("windows", State.NOTE, f"not a Windows: {self._text('system')}",
                      "Good for rehearsals; only a Windows services images.")  # fmt: skip

    def _modules(self) -> Iterator[Row]:
        listed = self._session.hello.get("modules")
        there = set(listed) if isinstance(listed, list) else set()
        for name, key in (("Hyper-V", "hyper-v"), ("Storage", "storage"), ("Dism", "dism-module")):
            if name in there:
                yield Row(key, State.OK, f"the module {name} is there")
            elif name == "Hyper-V":
                yield Row(
                    key, State.NOTE, "the module Hyper-V is not there",
                    "Images are read without it, and Mount-DiskImage mounts without it; Mount-VHD "
                    "and virtual machines need it: Enable-WindowsOptionalFeature -Online -All "
                    "-FeatureName Microsoft-Hyper-V-Management-PowerShell",
                )  # fmt: skip
            else:
                yield Row(key, State.FAILED, f"the module {name} is not there",
                          "Servicing needs it: every Windows since 8 and Server 2012 has it.",
                          )  # fmt: skip

    def _dism(self) -> Row:
        version = self._text("dism")
        if not self._session.on_windows:
            return Row("dism", State.NOTE, UNKNOWN)
        if not version:
            return Row("dism", State.FAILED, "there is no dism.exe", "Repair the host's Windows.")
        return Row("dism", State.OK, f"{version}; it services images up to its own version")

    # Besides

    def _iso(self) -> Row:
        there = self._facts.get("iso")
        if there is None:
            return Row("vmguest.iso", State.NOTE, UNKNOWN)
        if there:
            return Row("vmguest.iso", State.OK, "in System32")
        return Row("vmguest.iso", State.NOTE, "not there: Windows has brought none since 2016",
                   "Name the package with --package.")  # fmt: skip

    def _clock(self) -> Row:
        now = self._facts.get("now")
        if not isinstance(now, datetime):
            return Row("clock", State.NOTE, UNKNOWN)
        apart = now - self._middle
        if abs(apart) <= _CLOCKS:
            return Row("clock", State.OK, f"{abs(apart.total_seconds()):.0f} s apart")
        side = "ahead of" if apart > timedelta() else "behind"
        return Row(
            "clock", State.NOTE, f"{abs(apart.total_seconds()):.0f} s {side} this machine's",
            "Times in results come from both clocks, and Kerberos refuses more than five minutes: "
            "w32tm /resync",
        )  # fmt: skip


_UNFILTER = (
    "For a local account Windows filters it over the network, unless LocalAccountTokenFilterPolicy "
    "(DWORD, HKLM\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Policies\\System) is 1; a domain "
    "account in Administrators needs no such thing."
)
_ELEVATE = "Run imagetool as administrator."
