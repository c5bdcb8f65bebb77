"""The self-test: harmless commands that show on a real host what has only been read about so far.

They work in a private directory of the session's own, which goes with it; nothing is mounted, and
nothing else is touched. What a host cannot answer is said so, and is no failure.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from uuid import UUID

from imagetool.errors import HostFailed
from imagetool.host.answers import CmdletFailed
from imagetool.host.check.findings import UNKNOWN, Row, State
from imagetool.host.session import LEASE, Session
from imagetool.host.transport import ConnectionBroke, script

_UPLOAD = 1 << 20
_REQUESTS = 10
_FILE = 1 << 30
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


def try_out(session: Session) -> list[Row]:
    """Every trial. Raises HostFailed only where the connection is lost."""
    trials = _Trials(session)
    rows: list[Row] = []
    for name, trial in trials.all():
        try:
            rows += trial(name)
        except CmdletFailed as error:
            unanswered = error.error_id.startswith("CommandNotFound") or "NotAllowed" in (
                error.error_id
            )
            found = UNKNOWN if unanswered else _failure(error)
            rows.append(Row(name, State.NOTE if unanswered else State.FAILED, found))
        except ConnectionBroke:
            raise
        except HostFailed as error:
            rows.append(Row(name, State.FAILED, error.message, error.hint))
    return rows


def _failure(error: CmdletFailed) -> str:
    return (
        f"0x{error.hresult:08X}, {error.error_id or 'no error id'}, {error.category}: "
        f"{error.host_message.strip()}"
    )


class _Trials:
    """The trials of one session, in their order: later ones use the file that one uploads."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._files = session.files
        self._data = os.urandom(_UPLOAD)
        self._mark = "\\" if session.on_windows else "/"

    def all(self) -> Iterator[tuple[str, Callable[[str], list[Row]]]]:
        """Names and trials."""
        yield "engine", self._engine
        yield "script", self._script
        yield "request", self._request
        yield "values", self._values
        yield "private-directory", self._private_directory
        yield "upload", self._upload
        yield "find", self._find
        yield "read", self._read
        yield "in-use", self._in_use
        yield "missing-disk", self._missing_disk
        for cmdlet in ("Get-Disk", "Get-Volume", "Get-VMHost"):
            yield f"properties of {cmdlet}", self._properties
        yield "refused", self._refused
        yield "cancel", self._cancel
        yield "lease", self._lease
        yield "left over", self._left_over

    def _place(self, name: str) -> str:
        return self._files.temporary_directory() + self._mark + name

    # The engine

    def _engine(self, name: str) -> list[Row]:
        found = self._session.operate("engine")
        known = [f"{key} {found[key]}" for key in sorted(found) if key != "sha256" and found[key]]
        hello = self._session.hello
        return [Row(name, State.OK, f"{self._session.description}, {hello.get('edition')}, "
                    f"{hello.get('system')}; {', '.join(known)}")]  # fmt: skip

    def _script(self, name: str) -> list[Row]:
        found = self._session.operate("engine")["sha256"]
        ours = hashlib.sha256(script().replace(b"\r\n", b"\n").rstrip()).hexdigest()
        if not found:
            return [Row(name, State.NOTE, UNKNOWN)]
        if found == ours:  # however its lines end
            shipped = hashlib.sha256(script()).hexdigest()
            return [Row(name, State.OK, f"this version's, whose file has SHA-256 {shipped}")]
        return [Row(name, State.NOTE, f"not this version's: its text has SHA-256 {found}",
                    "A signed script differs by its signature; else install it anew.")]  # fmt: skip

    def _request(self, name: str) -> list[Row]:
        times = []
        for _ in range(_REQUESTS):
            begun = time.monotonic()
            self._session.operate("echo", value=0)
            times.append(1000 * (time.monotonic() - begun))
        return [Row(name, State.OK, f"{statistics.median(times):.1f} ms for a trivial one "
                    f"(median of {_REQUESTS}; slowest {max(times):.1f} ms)")]  # fmt: skip

    def _values(self, name: str) -> list[Row]:
        changed = []
        for kind, value in _VALUES.items():
            if self._session.operate("echo", value=value).get("value") != value:
                changed.append(kind)
        if changed:
            return [Row(name, State.FAILED, f"came back changed: {', '.join(changed)}")]
        return [Row(name, State.OK, f"{len(_VALUES)} kinds came back unchanged")]

    # Files

    def _private_directory(self, name: str) -> list[Row]:
        path = self._place("private")
        self._files.make_private_directory(path)
        try:
            access = str(self._session.operate("access", path=path)["access"])
        finally:
            self._files.remove_directory(path)
        gone = not self._files.stat(path).exists
        return [Row(name, State.OK if gone else State.FAILED,
                    f"{access}; {'removed again' if gone else 'cannot be removed'}")]  # fmt: skip

    def _upload(self, name: str) -> list[Row]:
        begun = time.monotonic()
        self._files.upload(self._data, self._place("upload.bin"))
        took = time.monotonic() - begun
        return [Row(name, State.OK, f"1 MiB in {took:.2f} s, {1 / took:.1f} MiB/s; SHA-256 agrees")]

    def _find(self, name: str) -> list[Row]:
        found = self._files.find(self._place("up*.b?n"))
        right = found == [self._place("upload.bin")]
        return [Row(name, State.OK if right else State.FAILED, f"{len(found)} of 1 found")]

    def _read(self, name: str) -> list[Row]:
        first, last = [_FILE, 0, 4096], [_FILE, _UPLOAD - 100, 4096]
        begun = time.monotonic()
        opened = self._session.operate(
            "open", file=_FILE, path=self._place("upload.bin"), ranges=first
        )
        result = self._session.operate("ranges", ranges=[_FILE, 7, _UPLOAD - 7, *last])
        took = time.monotonic() - begun
        self._session.operate("shut", file=_FILE)
        data = zlib.decompress(opened.data, -15) + zlib.decompress(result.data, -15)
        right = data == self._data[:4096] + self._data[7:] + self._data[-100:]
        return [Row(name, State.OK if right else State.FAILED,
                    f"1 MiB in {took:.2f} s, {'the bytes agree' if right else 'other bytes'}",
                    )]  # fmt: skip

    def _in_use(self, name: str) -> list[Row]:
        path = self._place("upload.bin")
        alone = self._files.in_use(path)
        self._session.operate("open", file=_FILE, path=path, ranges=[_FILE, 0, 1])
        held = self._files.in_use(path)
        self._session.operate("shut", file=_FILE)
        found = f"{'in use' if alone else 'free'}; while it is read {'in use' if held else 'free'}"
        return [Row(name, State.OK if not alone else State.FAILED, found)]

    # Cmdlets

    def _missing_disk(self, name: str) -> list[Row]:
        try:
            self._session.invoke("Get-VHD", Path=self._place("none.vhdx"))
        except CmdletFailed as error:
            if error.error_id.startswith("CommandNotFound"):
                raise
            return [Row(name, State.OK, f"Get-VHD: {_failure(error)}")]
        return [Row(name, State.FAILED, "Get-VHD found a disk that is not there")]

    def _properties(self, name: str) -> list[Row]:
        results = self._session.invoke(name.rpartition(" ")[2], properties=("*",), deadline=120.0)
        if not results:
            return [Row(name, State.NOTE, "no results")]
        listed = results[0].get("*")
        names = ", ".join(map(str, listed)) if isinstance(listed, list) else UNKNOWN
        return [Row(name, State.OK, f"{len(results)} results: {names}")]

    def _refused(self, name: str) -> list[Row]:
        try:
            self._session.invoke("Get-Process")
        except CmdletFailed as error:
            return [Row(name, State.OK, f"what is not on the script's list: {error.error_id}")]
        return [Row(name, State.FAILED, "a cmdlet ran that is not on the script's list")]

    def _cancel(self, name: str) -> list[Row]:
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
        return [Row(name, State.OK, f"{'cancelled' if cancelled else 'done before that'}; the "
                    f"session answers again after {took:.2f} s")]  # fmt: skip

    def _lease(self, name: str) -> list[Row]:
        return [Row(name, State.NOTE, f"{LEASE} s; not waited for")]

    def _left_over(self, name: str) -> list[Row]:
        self._files.delete(self._place("upload.bin"))
        left = self._files.find(self._place("*"))
        return [Row(name, State.FAILED if left else State.OK,
                    f"{len(left)} files; the directory goes with the session")]  # fmt: skip
