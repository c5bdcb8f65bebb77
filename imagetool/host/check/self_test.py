"""The self-test: harmless trials of the session's requests on a real host.

They work in the session's temporary directory, which is deleted with it; nothing is mounted, and
nothing else is changed. Trials that a host does not support are noted, and are no failures.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from uuid import UUID

from imagetool.contracts import Host
from imagetool.errors import HostFailed
from imagetool.host.answers import CmdletFailed
from imagetool.host.check.findings import UNKNOWN, HostFinding, State
from imagetool.host.files import FileOperations
from imagetool.host.reading.pages import decode_ranges
from imagetool.host.session import LEASE_SECONDS
from imagetool.host.transport import ConnectionBroke, read_script

_UPLOAD_BYTES = 1 << 20
_REQUEST_COUNT = 10
_FILE_NUMBER = 1 << 30
_VALUES: dict[str, object] = {
    "quotes": "'single' \"double\" `backtick` \u2018curly\u2019 “quotes” „low“",
    "PowerShell": "$(Get-Date) $env:PATH ${x} @{a=1} ; | & > <",
    "lines": "line\nfeed\r\ncarriage\ttab\0nul",
    "escapes": "_x0041_ _x005F_ </S>&amp;<![CDATA[",
    "characters": "é 日本語 \U0001f600 \u202e \ud800 alone",
    "long": "x" * 10_000,
    "numbers": [0, -1, 1 << 40, (1 << 64) - 1],
    "truth and nothing": [True, False, None],
    "bytes": bytes(range(256)),
    "time": datetime(2024, 3, 5, 9, 30, tzinfo=UTC),
    "identifier": UUID("6f9619ff-8b86-d011-b42d-00cf4fc964ff"),
    "nested": {"a": ["b", {"c": 1}]},
}


def run_self_test(session: Host) -> list[HostFinding]:
    """Run all trials; return their findings. Raises HostFailed only where the connection broke."""
    self_test = _SelfTest(session)
    findings: list[HostFinding] = []
    for name, trial in self_test.trials():
        try:
            findings += trial(name)
        except CmdletFailed as error:
            unanswered = error.error_id.startswith("CommandNotFound") or "NotAllowed" in (
                error.error_id
            )
            found = UNKNOWN if unanswered else _failure(error)
            findings.append(HostFinding(name, State.NOTE if unanswered else State.FAILED, found))
        except ConnectionBroke:
            raise
        except HostFailed as error:
            findings.append(HostFinding(name, State.FAILED, error.message, error.hint))
    return findings


def _failure(error: CmdletFailed) -> str:
    return (
        f"0x{error.hresult:08X}, {error.error_id or 'no error id'}, {error.category}: "
        f"{error.host_message.strip()}"
    )


class _SelfTest:
    """The trials of one session; later ones use the file that an earlier one uploads."""

    def __init__(self, session: Host) -> None:
        self._session = session
        self._files = FileOperations(session)
        self._data = os.urandom(_UPLOAD_BYTES)
        self._separator = "\\" if session.on_windows else "/"

    def trials(self) -> Iterator[tuple[str, Callable[[str], list[HostFinding]]]]:
        """Yield names and trials, in order."""
        yield "engine", self._engine
        yield "script", self._script
        yield "request", self._request
        yield "values", self._values
        yield "private-directory", self._private_directory
        yield "upload", self._upload
        yield "list", self._list
        yield "read", self._read
        yield "in-use", self._in_use
        yield "missing-disk", self._missing_disk
        for cmdlet in ("Get-Disk", "Get-Volume", "Get-VMHost"):
            yield f"properties of {cmdlet}", self._properties
        yield "refused", self._refused
        yield "cancel", self._cancel
        yield "lease", self._lease
        yield "left over", self._left_over

    def _temporary_path(self, name: str) -> str:
        return self._files.temporary_directory() + self._separator + name

    # The engine

    def _engine(self, name: str) -> list[HostFinding]:
        found = self._session.operate("engine")
        known = [f"{key} {found[key]}" for key in sorted(found) if key != "sha256" and found[key]]
        hello = self._session.hello
        return [
            HostFinding(
                name,
                State.OK,
                f"{self._session.description}, {hello.get('edition')}, "
                f"{hello.get('system')}; {', '.join(known)}",
            )
        ]

    def _script(self, name: str) -> list[HostFinding]:
        found = self._session.operate("engine")["sha256"]
        ours = hashlib.sha256(read_script().replace(b"\r\n", b"\n").rstrip()).hexdigest()
        if not found:
            return [HostFinding(name, State.NOTE, UNKNOWN)]
        if found == ours:  # however its lines end
            shipped = hashlib.sha256(read_script()).hexdigest()
            return [
                HostFinding(name, State.OK, f"this version's, whose file has SHA-256 {shipped}")
            ]
        return [
            HostFinding(
                name,
                State.NOTE,
                f"not this version's: its text has SHA-256 {found}",
                "A signed script differs by its signature; else install it anew.",
            )
        ]

    def _request(self, name: str) -> list[HostFinding]:
        times = []
        for _ in range(_REQUEST_COUNT):
            begun = time.monotonic()
            self._session.operate("echo", value=0)
            times.append(1000 * (time.monotonic() - begun))
        return [
            HostFinding(
                name,
                State.OK,
                f"{statistics.median(times):.1f} ms for a trivial one "
                f"(median of {_REQUEST_COUNT}; slowest {max(times):.1f} ms)",
            )
        ]

    def _values(self, name: str) -> list[HostFinding]:
        changed = []
        for kind, value in _VALUES.items():
            if self._session.operate("echo", value=value).get("value") != value:
                changed.append(kind)
        if changed:
            return [HostFinding(name, State.FAILED, f"came back changed: {', '.join(changed)}")]
        return [HostFinding(name, State.OK, f"{len(_VALUES)} kinds came back unchanged")]

    # Files

    def _private_directory(self, name: str) -> list[HostFinding]:
        path = self._temporary_path("private")
        self._files.make_private_directory(path)
        try:
            access = self._session.operate("access", path=path).text("access")
        finally:
            self._files.remove_directory(path)
        gone = not self._files.stat(path).exists
        return [
            HostFinding(
                name,
                State.OK if gone else State.FAILED,
                f"{access}; {'removed again' if gone else 'cannot be removed'}",
            )
        ]

    def _upload(self, name: str) -> list[HostFinding]:
        begun = time.monotonic()
        self._files.upload(self._data, self._temporary_path("upload.bin"))
        took = time.monotonic() - begun
        return [
            HostFinding(
                name, State.OK, f"1 MiB in {took:.2f} s, {1 / took:.1f} MiB/s; SHA-256 agrees"
            )
        ]

    def _list(self, name: str) -> list[HostFinding]:
        found = self._files.list_names(self._files.temporary_directory())
        right = found == ["upload.bin"]
        return [HostFinding(name, State.OK if right else State.FAILED, f"{len(found)} of 1 found")]

    def _read(self, name: str) -> list[HostFinding]:
        first, last = [_FILE_NUMBER, 0, 4096], [_FILE_NUMBER, _UPLOAD_BYTES - 100, 4096]
        begun = time.monotonic()
        opened = self._session.operate(
            "open", file=_FILE_NUMBER, path=self._temporary_path("upload.bin"), ranges=first
        )
        result = self._session.operate("ranges", ranges=[_FILE_NUMBER, 7, _UPLOAD_BYTES - 7, *last])
        took = time.monotonic() - begun
        self._session.operate("shut", file=_FILE_NUMBER)
        lengths = [_UPLOAD_BYTES - 7, 100]
        parts = decode_ranges(opened.data, opened["lengths"], [4096], "")
        parts += decode_ranges(result.data, result["lengths"], lengths, "")
        right = b"".join(parts) == self._data[:4096] + self._data[7:] + self._data[-100:]
        return [
            HostFinding(
                name,
                State.OK if right else State.FAILED,
                f"1 MiB in {took:.2f} s, {'the bytes agree' if right else 'other bytes'}",
            )
        ]

    def _in_use(self, name: str) -> list[HostFinding]:
        path = self._temporary_path("upload.bin")
        alone = self._files.in_use(path)
        self._session.operate("open", file=_FILE_NUMBER, path=path, ranges=[_FILE_NUMBER, 0, 1])
        held = self._files.in_use(path)
        self._session.operate("shut", file=_FILE_NUMBER)
        found = f"{'in use' if alone else 'free'}; while it is read {'in use' if held else 'free'}"
        return [HostFinding(name, State.OK if not alone else State.FAILED, found)]

    # Cmdlets

    def _missing_disk(self, name: str) -> list[HostFinding]:
        try:
            self._session.invoke("Get-VHD", Path=self._temporary_path("none.vhdx"))
        except CmdletFailed as error:
            if error.error_id.startswith("CommandNotFound"):
                raise
            return [HostFinding(name, State.OK, f"Get-VHD: {_failure(error)}")]
        return [HostFinding(name, State.FAILED, "Get-VHD found a disk that is not there")]

    def _properties(self, name: str) -> list[HostFinding]:
        results = self._session.invoke(name.rpartition(" ")[2], properties=("*",), deadline=120.0)
        if not results:
            return [HostFinding(name, State.NOTE, "no results")]
        listed = results[0].get("*")
        names = ", ".join(map(str, listed)) if isinstance(listed, list) else UNKNOWN
        return [HostFinding(name, State.OK, f"{len(results)} results: {names}")]

    def _refused(self, name: str) -> list[HostFinding]:
        try:
            self._session.invoke("Get-Process")
        except CmdletFailed as error:
            return [
                HostFinding(name, State.OK, f"what is not on the script's list: {error.error_id}")
            ]
        return [HostFinding(name, State.FAILED, "a cmdlet ran that is not on the script's list")]

    def _cancel(self, name: str) -> list[HostFinding]:
        begun = time.monotonic()
        cancelled = False
        try:
            self._session.invoke("Get-Disk", properties=("Number",), deadline=0.0)
        except CmdletFailed:
            raise
        except HostFailed:
            cancelled = True
        self._session.operate("echo", value=0)
        took = time.monotonic() - begun
        return [
            HostFinding(
                name,
                State.OK,
                f"{'cancelled' if cancelled else 'done before that'}; the "
                f"session answers again after {took:.2f} s",
            )
        ]

    def _lease(self, name: str) -> list[HostFinding]:
        return [HostFinding(name, State.NOTE, f"{LEASE_SECONDS} s; not waited for")]

    def _left_over(self, name: str) -> list[HostFinding]:
        self._files.delete(self._temporary_path("upload.bin"))
        left = self._files.list_names(self._files.temporary_directory())
        return [
            HostFinding(
                name,
                State.FAILED if left else State.OK,
                f"{len(left)} files; the directory goes with the session",
            )
        ]
