"""The door to an emulated host: a loopback socket, over which cmdlets are called.

A connection begins with a frame (host/frames.py) that has the secret and one of: `cmdlet` with
`parameters`, answered by frames until the end of the connection; `session`, a name, after which
further frames call cmdlets (answered up to `end`), tell of files that are to be deleted with the
session (`own`), or `close` it; `status`; `reset`. The faults of a session happen to its cmdlets.

A session whose connection breaks, because its process was killed, is cleaned up here as the script
on a real host would do: what it mounted is dismounted, what it owned is deleted.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from imagetool.errors import HostFailed, WrongUsage
from imagetool.host.frames import decode_frame, encode_frame, is_path_parameter
from imagetool.lab.cmdlet import CmdletFailure, StreamRecord
from imagetool.lab.emulated_host import EmulatedHost
from imagetool.lab.faults import Dropped, FaultMatcher, parse_faults, strike
from imagetool.lab.owned import delete_owned
from imagetool.lab.path_names import in_letters_of_files
from imagetool.lab.stand_ins import module_names
from imagetool.lab.undoing import Undoing, is_undone, undoing
from imagetool.lab.wine_paths import names_of_prefix

PROTOCOL = 2
"""Changes with the frames of the door: a host of another version is not asked."""

_MAX_REQUEST_LENGTH = 8 << 20

Frame = dict[str, object]


@dataclass(slots=True)
class _OpenSession:
    """A session as the door knows it."""

    faults: FaultMatcher
    undo: list[Undoing] = field(default_factory=list)
    owned: list[str] = field(default_factory=list)


class HostServer:
    """Listens on a free loopback port until closed; answers callers that send the secret."""

    def __init__(self, emulated_host: EmulatedHost) -> None:
        self.secret = secrets.token_hex(32)
        self.emulated_host = emulated_host
        self._cmdlet_lock = threading.Lock()
        self._changed = threading.Condition()
        self._sessions: dict[str, _OpenSession] = {}
        self._callers = 0
        self._closing = threading.Event()

        class Handler(socketserver.StreamRequestHandler):
            def handle(handler) -> None:  # noqa: N805  # self is the server
                with contextlib.suppress(ConnectionError, Dropped):  # nobody listens any more
                    self._answer(handler)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()

    def write_endpoint(self, path: Path) -> None:
        """Write the port and the secret, a line each, to a file that only this user can read."""
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        part.touch(mode=0o600)
        part.write_text(f"{self.port}\n{self.secret}\n", encoding="ascii")
        part.replace(path)

    @property
    def session_count(self) -> int:
        """The number of open sessions."""
        return len(self._sessions)

    def wait_until_idle(self, seconds: float) -> None:
        """Wait until there was no session, no caller and no mount for so many seconds.

        Also returns when the host is told to end.
        """
        with self._changed:
            while not self._closing.is_set():
                if self._busy():
                    self._changed.wait()
                elif not self._changed.wait(seconds) and not self._busy():
                    self._closing.set()  # within the condition: no session begins any more

    def _busy(self) -> bool:
        return bool(self._sessions or self._callers or self.emulated_host.disks)

    # One connection

    def _answer(self, handler: socketserver.StreamRequestHandler) -> None:
        request = self._receive(handler)
        if request is None or not hmac.compare_digest(
            str(request.get("secret")).encode(), self.secret.encode()
        ):
            return

        def send(frame: Frame) -> None:
            handler.wfile.write(encode_frame(frame))
            handler.wfile.flush()

        with self._changed:
            self._callers += 1
        try:
            if "session" in request and "cmdlet" not in request:
                self._serve_session(handler, request, send)
            elif request.get("status"):
                send(self._status())
            elif request.get("reset"):
                with self._cmdlet_lock:
                    self.emulated_host.dismount_all()
                send(self._status())
                self._closing.set()
            else:
                session = self._sessions.get(str(request.get("session")))
                self._call(request, session, send)
                send({"kind": "end"})
        finally:
            with self._changed:
                self._callers -= 1
                self._changed.notify_all()

    @staticmethod
    def _receive(handler: socketserver.StreamRequestHandler) -> Frame | None:
        line = handler.rfile.readline(_MAX_REQUEST_LENGTH)
        try:
            return decode_frame(line) if line else None
        except HostFailed:
            return None

    def _module_names(self) -> tuple[str, ...]:
        return module_names(hyper_v=self.emulated_host.configuration.host.hyper_v)

    def _status(self) -> Frame:
        disks = self.emulated_host.describe()
        state: Frame = {"kind": "status", "protocol": PROTOCOL, "process": os.getpid()}
        return state | {"sessions": self.session_count, "disks": disks}

    def _serve_session(
        self,
        handler: socketserver.StreamRequestHandler,
        request: Frame,
        send: Callable[[Frame], None],
    ) -> None:
        name = str(request["session"])
        try:
            session = _OpenSession(parse_faults(str(request.get("faults") or "")))
        except WrongUsage:  # its client has parsed them
            return
        with self._changed:
            if self._closing.is_set():
                return
            self._sessions[name] = session
        try:
            hello: Frame = {"kind": "hello", "protocol": PROTOCOL, "process": os.getpid()}
            send(hello | {"modules": list(self._module_names())})
            while (frame := self._receive(handler)) is not None:
                number = frame.get("number")

                def answer(content: Frame, number: object = number) -> None:
                    send(content | {"number": number})

                if frame.get("close"):
                    session.undo.clear()
                    session.owned.clear()
                elif "own" in frame:
                    session.owned.append(str(frame["own"]))
                else:
                    self._call(frame, session, answer, note_mounts=True)
                answer({"kind": "end"})
        finally:
            with self._changed:
                del self._sessions[name]
            with self._cmdlet_lock:
                for item in reversed(session.undo):
                    with contextlib.suppress(CmdletFailure):  # nobody is left to tell
                        self.emulated_host.call(item.cmdlet, dict(item.parameters), lambda _: None)
            delete_owned(session.owned)

    def _call(
        self,
        request: Frame,
        session: _OpenSession | None,
        send: Callable[[Frame], None],
        *,
        note_mounts: bool = False,
    ) -> None:
        """Call a cmdlet, and send its records, results, or failure."""
        request, send = _with_paths_here(request, send)

        def report(record: StreamRecord) -> None:
            send({"kind": record.kind, "text": record.text, "percent": record.percent})

        cmdlet = str(request.get("cmdlet"))
        given = request.get("parameters")
        parameters = given if isinstance(given, dict) else {}
        _make_absolute(parameters, str(request.get("directory") or ""))
        try:
            if session is not None:
                strike(session.faults, cmdlet, self._closing)
            with self._cmdlet_lock:  # one cmdlet at a time
                process = request.get("process")
                self.emulated_host.caller = process if isinstance(process, int) else 0
                results = self.emulated_host.call(cmdlet, parameters, report)
        except (CmdletFailure, OSError, ValueError) as error:
            failure = error
            if isinstance(error, ConnectionError):
                raise
            if not isinstance(failure, CmdletFailure):
                failure = CmdletFailure(f"The emulated host failed: {error}")
            send(
                {
                    "kind": "failure",
                    "message": failure.message,
                    "hresult": failure.hresult,
                    "category": failure.category,
                    "errorid": failure.error_id,
                    "exception": failure.exception,
                }
            )
            return
        if session is not None and note_mounts:
            session.undo = [i for i in session.undo if not is_undone(i, cmdlet, parameters)]
            undone_by = undoing(cmdlet, parameters)
            if undone_by is not None:
                session.undo.append(undone_by)
        for result in results:
            send({"kind": "result", "type": result.type, "properties": result.properties})

    def close(self) -> None:
        """Stop listening."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


def _with_paths_here(
    request: Frame, send: Callable[[Frame], None]
) -> tuple[Frame, Callable[[Frame], None]]:
    """Translate the paths of a caller under Wine, in its request and in what is sent to it."""
    prefix = str(request.get("prefix") or "")
    names = names_of_prefix(prefix, str(request.get("directory") or "")) if prefix else None
    if names is None:
        return request, send
    here = names.request(request, lambda path: in_letters_of_files(names.to_directory(path)))

    def send_names(frame: Frame) -> None:
        answer = names.answer(frame)
        if "text" in answer:
            answer["text"] = names.text_to_names(str(answer["text"]))
        send(answer)

    return {**here, "directory": ""}, send_names


def _make_absolute(parameters: Frame, directory: str) -> None:
    """Complete relative paths by the directory of the caller."""
    for name, value in list(parameters.items()):
        if not is_path_parameter(name):
            continue
        if isinstance(value, str) and value and directory:
            parameters[name] = str(Path(directory, value))
        elif isinstance(value, list) and directory:
            parameters[name] = [str(Path(directory, str(item))) for item in value]
