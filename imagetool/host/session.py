"""A session with a host: cmdlets are invoked by name, and results are plain data."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType

from imagetool.contracts import OnEvent, Reference, Result
from imagetool.errors import HostFailed
from imagetool.host.answers import AnswerCollector
from imagetool.host.files import FileOperations
from imagetool.host.frames import (
    AnswerFrame,
    RequestFrame,
    check_paths,
    check_properties,
    decode_bytes,
)
from imagetool.host.transport import ConnectionBroke, Transport

LEASE_SECONDS = 180
"""Seconds without a message from its client after which the script ends."""

_log = logging.getLogger(__name__)

_PROTOCOL = 4
_RENEW_INTERVAL = LEASE_SECONDS / 3
_CMDLET_RENEW_INTERVAL = 5.0
"""While a cmdlet runs: a line that arrives frees a child process that waits for the same input."""
_START_TIMEOUT = 90.0
_CANCEL_TIMEOUT = 120.0
_RECONNECT_PAUSES = (0.0, 0.5, 2.0, 5.0, 10.0, 20.0)
"""Seconds to wait before each attempt to reconnect."""
_RECONNECT_SECONDS = 90.0
FIRST_RESUME_ATTEMPT = 1000
"""Attempt number of the first repetition after an interruption; earlier ones stay below it."""
_ACKNOWLEDGE_TIMEOUT = 3.0
_SILENCE_TIMEOUT = 60.0
_POLL_INTERVAL = 2.0
_READ_OPERATIONS = ("open", "ranges", "shut", "list", "stat", "volume", "facts")
_READ_SECONDS = 600.0
_REQUEST_SECONDS = 12 * 3600.0
"""The time of a request without a deadline of its own: DISM and the copy of an image take hours."""
_MAX_HELLO_BYTES = 64 << 10
_HELLO_TYPES: dict[str, type] = {
    "protocol": int,
    "process": int,
    "windows": bool,
    "emulated": bool,
    "modules": list,
    "edition": str,
    "version": str,
    "language": str,
    "system": str,
    "computer": str,
}
_LATE_HINT = "Look on the host whether powershell.exe or dismhost.exe hangs."


class _AnswerTimeout(HostFailed):
    """No answer came in time."""


class _Reconnects:
    """Counts attempts to reconnect since the last answer, and limits their number and time."""

    def __init__(self) -> None:
        self.attempts = 0
        self._since = 0.0

    def next_pause(self, error: ConnectionBroke) -> float:
        """Return the seconds to wait before the next attempt. Raises `error` after the last."""
        now = time.monotonic()
        self._since = self._since or now
        if self.attempts == len(_RECONNECT_PAUSES) or now - self._since > _RECONNECT_SECONDS:
            raise error
        self.attempts += 1
        return _RECONNECT_PAUSES[self.attempts - 1]


class Session:
    """One running script on one host. Close it, or use it as a context manager.

    Requests of several threads run one after the other; only the lease is renewed beside them.
    After a broken connection the session reconnects and repeats the request, which the script runs
    once only. Raises HostFailed where the host ends the session, CmdletFailed where a request
    failed there.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._number = 0
        self._unfinished: RequestFrame | None = None
        self._stop = threading.Event()
        self._connection_lost = False
        self._cmdlet_runs = False
        self._request_lock = threading.RLock()
        self._send_lock = threading.Lock()
        self.files = FileOperations(self)
        try:
            hello = self._await_hello()
            if hello.content.get("protocol") != _PROTOCOL:
                raise HostFailed(
                    "the host runs another version of the session's script",
                    hint="Install the session.ps1 of this version of imagetool there.",
                )
        except BaseException:  # an interruption, too
            transport.close()
            raise
        self.hello = hello.content
        self._renewal = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._renewal.start()

    def _await_hello(self) -> AnswerFrame:
        reconnects = _Reconnects()
        while True:
            try:
                end = time.monotonic() + _START_TIMEOUT
                answer = self._receive(end, "the start of the script")
                break
            except ConnectionBroke as error:
                self._reconnect(reconnects.next_pause(error))
        if answer.kind != "hello" or answer.size > _MAX_HELLO_BYTES:
            raise HostFailed("the host's first word was not that of the session's script")
        for name, value in answer.content.items():
            if not isinstance(value, _HELLO_TYPES.get(name, object)):
                raise HostFailed(f"the host's first word has a {name} of a wrong type")
        return answer

    @property
    def description(self) -> str:
        """The edition and version of the PowerShell on the host, for people."""
        if self.hello.get("edition") == "Python":
            return "Python in place of PowerShell"
        name = "Windows PowerShell" if self.hello.get("edition") == "Desktop" else "PowerShell"
        return f"{name} {self.hello.get('version')}"

    @property
    def on_windows(self) -> bool:
        """True if the host runs Windows, which decides the rules of its paths."""
        return self.hello.get("windows") is True

    @property
    def emulated(self) -> bool:
        """True if its cmdlets are those of the emulated host."""
        return self.hello.get("emulated") is True

    @property
    def modules(self) -> Sequence[str]:
        """Those of the modules Hyper-V, Storage and Dism that are installed there."""
        found = self.hello.get("modules")
        return [str(name) for name in found] if isinstance(found, list) else []

    def invoke(
        self,
        cmdlet: str,
        *,
        properties: Sequence[str] = (),
        keep: bool = False,
        deadline: float | None = None,
        on_event: OnEvent | None = None,
        **parameters: object,
    ) -> list[Result]:
        """Run a cmdlet with named parameters; return the named properties of each result.

        With `keep` the objects are kept on the host until `release`: pass `Result.reference` as a
        parameter of a later cmdlet. After `deadline` seconds HostFailed is raised, and the next
        request or `close` cancels the cmdlet. Raises CmdletFailed where it reports any error,
        CannotOpen for a path that would be another file's on the host.
        """
        check_properties(properties)
        if not self.on_windows:
            check_paths(parameters)
        references = {k: v.number for k, v in parameters.items() if isinstance(v, Reference)}
        plain = {k: v for k, v in parameters.items() if k not in references}
        request = RequestFrame(0, "invoke", cmdlet, plain, tuple(properties), references, keep)
        return self._request(request, cmdlet, deadline, on_event)

    def operate(
        self,
        operation: str,
        *,
        data: bytes | None = None,
        deadline: float | None = None,
        on_event: OnEvent | None = None,
        **parameters: object,
    ) -> Result:
        """Run an operation of session.ps1 itself; `data` is sent as its payload.

        Raises CmdletFailed; CannotOpen for a path that would be another file's on the host.
        """
        if not self.on_windows:
            check_paths(parameters)
        request = RequestFrame(0, operation, parameters=parameters, data=data)
        results = self._request(request, operation, deadline, on_event)
        return results[0] if results else Result()

    def release(self, references: Sequence[Reference]) -> None:
        """Release objects that are kept on the host."""
        self.operate("forget", references=[item.number for item in references])

    def keep_mounts(self) -> None:
        """Leave mounted, at the end of the session, the disks that are mounted now."""
        self.operate("commit")

    def _request(
        self, request: RequestFrame, name: str, deadline: float | None, on_event: OnEvent | None
    ) -> list[Result]:
        with self._request_lock:
            if self._stop.is_set():
                raise HostFailed("the session is closed", hint="Open another.")
            self._cancel_unfinished()
            self._number += 1
            request = replace(request, number=self._number)
            return self._run_request(request, name, deadline, on_event)

    def _run_request(
        self, request: RequestFrame, name: str, deadline: float | None, on_event: OnEvent | None
    ) -> list[Result]:
        if deadline is None:
            reads = request.operation in _READ_OPERATIONS
            deadline = _READ_SECONDS if reads else _REQUEST_SECONDS
        end = time.monotonic() + deadline
        answers = AnswerCollector(request, name, on_event)
        self._cmdlet_runs = request.operation == "invoke"
        try:
            self._exchange(request, answers, end)
        except ConnectionBroke:
            self._connection_lost = True
            raise
        finally:
            self._cmdlet_runs = False
        self._unfinished = None
        return answers.results_or_raise()

    def _exchange(
        self,
        request: RequestFrame,
        answers: AnswerCollector,
        end: float,
        before: bytes = b"",
    ) -> None:
        """Send a request and collect its answers; repetitions are preceded by the lines `before`.

        It is repeated over a new connection where the old one breaks, and after a long silence,
        for an answer may be lost without an error; not beyond `end`.
        """
        attempt, reconnects = request.attempt, _Reconnects()
        while True:
            try:
                line = replace(request, attempt=attempt).encode()
                if attempt:
                    answers.begin_repeat(attempt)
                    line = b"\n" + before + line
                self._unfinished = request
                self._send(line)
                if attempt:
                    patience = _ACKNOWLEDGE_TIMEOUT * 2**reconnects.attempts
                    self._await_acknowledgement(answers, min(end, time.monotonic() + patience))
                if self._collect(answers, end):
                    return
                reconnects = _Reconnects()
            except ConnectionBroke as error:
                pause = reconnects.next_pause(error)
                if time.monotonic() + pause >= end:
                    raise
                self._reconnect(pause)
            attempt += 1

    def _send(self, lines: bytes) -> None:
        """Send lines without others in between: a transport may need several messages for them,
        and another thread renews the lease."""
        with self._send_lock:
            self._transport.send(lines)

    def _reconnect(self, pause: float) -> None:
        """Reconnect after a pause; a failure shows at the next use of the connection."""
        if pause == _RECONNECT_PAUSES[2]:
            _log.warning(
                "the connection to the host broke; trying for %d seconds more", _RECONNECT_SECONDS
            )
        time.sleep(pause)
        with contextlib.suppress(ConnectionBroke):
            self._transport.reconnect()

    def _await_acknowledgement(self, answers: AnswerCollector, end: float) -> None:
        """Skip answers until the script acknowledges the repeated request. Raises ConnectionBroke
        at the end of its time, so that the request is repeated once more."""
        while answers.awaiting_repeat:
            try:
                answers.add(self._receive(end, answers.name, tolerant=True))
            except _AnswerTimeout:
                raise ConnectionBroke(
                    f"the host did not answer in time: {answers.name}", hint=_LATE_HINT
                ) from None

    def _collect(self, answers: AnswerCollector, end: float) -> bool:
        """Collect answers until the last; return False after a long silence.

        Only answers to this request break the silence, and nothing moves the end.
        """
        silence = time.monotonic() + _SILENCE_TIMEOUT
        while not answers.complete:
            try:
                answer = self._receive(min(silence, end), answers.name)
            except _AnswerTimeout:
                if time.monotonic() >= end:
                    raise
                return False
            if answers.add(answer):
                silence = time.monotonic() + _SILENCE_TIMEOUT
        return True

    def _cancel_unfinished(self) -> None:
        """Cancel an interrupted request and await its end, before the next one is sent."""
        if self._unfinished is None:
            return
        # The interruption may have lost answers, so the request is repeated. One that never
        # arrived is cancelled before it is run.
        request, self._unfinished = replace(self._unfinished, attempt=FIRST_RESUME_ATTEMPT), None
        cancel = RequestFrame(0, "cancel", parameters={"number": request.number}).encode()
        answers = AnswerCollector(request, "the end of a cancelled cmdlet", None)
        self._exchange(request, answers, time.monotonic() + _CANCEL_TIMEOUT, cancel)
        self._unfinished = None

    def _receive(self, end: float, what: str, tolerant: bool = False) -> AnswerFrame:
        """Return the next answer. With `tolerant`, unreadable lines are skipped."""
        while True:
            line = self._next_line(end, what)
            if not line.strip():
                continue
            try:
                answer = AnswerFrame.decode(line)
                if answer.payload_size is not None:
                    payload = self._next_line(end, what)
                    data = decode_bytes(payload)
                    if len(data) != answer.payload_size:
                        raise HostFailed("the host answered with bytes that are not complete")
                    answer.content["data"] = data
                    answer = replace(answer, size=answer.size + len(payload))
            except ConnectionBroke:
                raise
            except HostFailed:
                if tolerant:
                    continue
                raise
            return answer

    def _next_line(self, end: float, what: str) -> bytes:
        """Return the next line, also an empty one. Raises _AnswerTimeout at the end of the time,
        also where lines are waiting: a host may send them faster than they are read."""
        while (left := end - time.monotonic()) > 0:
            line = self._transport.receive_line(min(_POLL_INTERVAL, left))
            if line is not None:
                return line
        raise _AnswerTimeout(f"the host did not answer in time: {what}", hint=_LATE_HINT)

    def _renew(self) -> None:
        line = RequestFrame(0, "renew").encode()
        renewed = time.monotonic()
        while not self._stop.wait(min(_CMDLET_RENEW_INTERVAL, _RENEW_INTERVAL)):
            if not self._cmdlet_runs and time.monotonic() - renewed < _RENEW_INTERVAL:
                continue
            renewed = time.monotonic()
            try:
                try:
                    self._send(line)
                except ConnectionBroke:
                    self._transport.reconnect()
                    self._send(b"\n" + line)
            except ConnectionBroke:
                continue  # the next request tries to reconnect for longer
            except HostFailed:
                return

    def close(self) -> None:
        """End the script, which dismounts the disks that it still has mounted."""
        if self._stop.is_set():
            return
        self._stop.set()
        unfinished = self._unfinished
        try:
            # Reads need not be cancelled: they end with the script.
            if (
                not self._connection_lost
                and unfinished is not None
                and unfinished.operation not in _READ_OPERATIONS
            ):
                with contextlib.suppress(HostFailed):
                    self._cancel_unfinished()
        finally:
            self._transport.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
