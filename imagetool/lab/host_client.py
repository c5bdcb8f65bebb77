"""A client of an emulated host's door (host_server.py)."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from imagetool.errors import HostFailed
from imagetool.host.frames import decode_frame, encode_frame
from imagetool.lab.cmdlet import CmdletFailure, CmdletResult, ReportCallback, StreamRecord
from imagetool.lab.host_server import PROTOCOL

_CONNECT_SECONDS = 10.0


class Door(NamedTuple):
    """Where an emulated host can be asked, on this machine."""

    port: int
    secret: str

    @classmethod
    def read(cls, path: Path) -> Door | None:
        """Read the file that HostServer.write_endpoint wrote; None where there is none."""
        try:
            port, secret = path.read_text(encoding="ascii").split()
            return cls(int(port), secret)
        except (OSError, ValueError):
            return None

    def ask(self, seconds: float | None = None, **request: object) -> dict[str, object]:
        """Send one request and return the first frame of the answer, which may take so long.

        Raises HostFailed, OSError.
        """
        with _connect(self, request) as connection:
            connection.socket.settimeout(seconds)
            return _next_frame(connection)

    def status(self) -> Mapping[str, object]:
        """Return process, sessions and mounted disks. Raises HostFailed, OSError."""
        return self.ask(status=True)


class _Connection:
    """An open connection, as lines."""

    def __init__(self, door: Door) -> None:
        self.socket = socket.create_connection(("127.0.0.1", door.port), _CONNECT_SECONDS)
        self.socket.settimeout(None)
        self.lines = self.socket.makefile("rb")

    def send(self, frame: dict[str, object]) -> None:
        """Send a frame. Raises OSError."""
        self.socket.sendall(encode_frame(frame))

    def __enter__(self) -> _Connection:
        return self

    def __exit__(self, *error: object) -> None:
        self.lines.close()
        self.socket.close()


def _connect(door: Door, request: dict[str, object]) -> _Connection:
    connection = _Connection(door)
    try:
        connection.send({"secret": door.secret, **request})
    except BaseException:
        connection.__exit__()
        raise
    return connection


class HostEnded(HostFailed):
    """The emulated host does not answer any more."""

    def __init__(
        self, message: str = "the emulated host has ended", *, hint: str = "Open another session."
    ) -> None:
        super().__init__(message, hint=hint)


def _next_frame(connection: _Connection) -> dict[str, object]:
    try:
        line = connection.lines.readline()
    except OSError:
        line = b""
    if not line:
        raise HostEnded
    return decode_frame(line)


class DoorSession:
    """A session with an emulated host: cmdlets are called one after the other.

    When the process that holds it is killed, the host cleans up what the session has left. Raises
    HostFailed where the host is of another version or has gone.
    """

    def __init__(self, door: Door, faults: str = "", name: str = "") -> None:
        self.name = name or uuid.uuid4().hex
        """The name by which calls over other connections belong to the session."""
        self._number = 0
        self._connection = _connect(door, {"session": self.name, "faults": faults})
        try:
            hello = _next_frame(self._connection)
            modules = hello.get("modules")
            self.modules = tuple(map(str, modules)) if isinstance(modules, list) else ()
            """The names of the PowerShell modules that the host has."""
            if hello.get("protocol") != PROTOCOL:
                raise HostFailed(
                    "another version of imagetool runs the emulated host",
                    hint="`imagetool lab reset` ends it.",
                )
        except BaseException:  # an interruption, too
            self._connection.__exit__()
            raise

    def call(
        self, cmdlet: str, parameters: Mapping[str, object], report: ReportCallback
    ) -> list[CmdletResult]:
        """Call a cmdlet whose parameters are bound. Raises CmdletFailure, HostFailed."""
        request: dict[str, object] = {"cmdlet": cmdlet, "parameters": dict(parameters)}
        results: list[CmdletResult] = []
        failure: CmdletFailure | None = None
        caller = {"directory": os.getcwd(), "process": os.getpid()}  # noqa: PTH109  # a text
        for frame in self._ask(request | caller):
            kind = frame.get("kind")
            if kind == "result":
                properties = frame.get("properties")
                assert isinstance(properties, dict)
                results.append(CmdletResult(str(frame["type"]), properties))
            elif kind == "failure":
                failure = _failure(frame)
            else:
                percent = frame.get("percent")
                percentage = percent if isinstance(percent, int) else -1
                report(StreamRecord(str(kind), str(frame.get("text")), percentage))
        if failure is not None:
            raise failure
        return results

    def own(self, path: str) -> None:
        """Have a file or directory deleted where this process is killed. Raises HostFailed."""
        list(self._ask({"own": path}))

    def _ask(self, request: dict[str, object]) -> Iterator[dict[str, object]]:
        self._number += 1
        try:
            self._connection.send(request | {"number": self._number})
            while True:
                frame = _next_frame(self._connection)
                if frame.get("number") != self._number:
                    continue  # the answer to a call that was interrupted
                if frame.get("kind") == "end":
                    return
                yield frame
        except OSError:
            raise HostEnded from None

    def close(self) -> None:
        """Close the session: its holder has cleaned up itself."""
        with suppress(HostFailed, OSError):
            list(self._ask({"close": True}))
        self._connection.__exit__()


def _failure(frame: Mapping[str, object]) -> CmdletFailure:
    hresult = frame.get("hresult")
    return CmdletFailure(
        str(frame.get("message")),
        hresult=hresult if isinstance(hresult, int) else 0x80004005,
        category=str(frame.get("category")),
        error_id=str(frame.get("errorid") or ""),
        exception=str(frame.get("exception")),
    )
