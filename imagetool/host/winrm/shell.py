"""A session over WinRM: one shell, one PowerShell, the script's lines over its standard streams.

The life of a session: authenticate, create a shell, start PowerShell with the bootstrap command,
send the script over standard input, receive its `hello`. Then a request is a Send, and its answers
are a Receive. In the end standard input is closed, the script dismounts what it mounted and exits,
and the shell is deleted. One operation is pending at a time: the lease is renewed between two.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING

from imagetool.errors import HostFailed, WrongUsage
from imagetool.host.clixml import stderr_text
from imagetool.host.frames import RequestFrame
from imagetool.host.session import LEASE_SECONDS, Session
from imagetool.host.transport import (
    MAX_LINE_BYTES,
    VERSION_CHECK,
    ConnectionBroke,
    bootstrap_command,
    endless_line,
    exit_error,
    read_script,
    script_lines,
    startup_error,
)
from imagetool.host.winrm.wsman import (
    IDLE_TIMEOUT,
    MAX_INPUT_BYTES,
    OPERATION_TIMEOUT,
    Busy,
    PipeClosed,
    TimedOut,
    WSManConnection,
)

if TYPE_CHECKING:
    from imagetool.host.configuration import ConfiguredHost
    from imagetool.host.configuration.credentials import Credentials

_POWERSHELL = r"%SystemRoot%\System32\WindowsPowerShell\v1.0\powershell.exe"
"""By its whole path, for cmd.exe: a bare name would be looked for in the directory of the shell."""
_OPTIONS = ("-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass")
_START_ATTEMPTS = 4
_CLOSE_ATTEMPTS = 3
_BUSY_TIMEOUT = 60.0
_EXIT_TIMEOUT = 60.0
_MAX_STDERR_PARTS = 200
_RECEIVE_MARGIN = 1.0

_log = logging.getLogger(__name__)


def open_winrm(host: ConfiguredHost, credentials: Callable[[], Credentials]) -> Session:
    """Open a session with a host over WinRM. Raises HostFailed with a hint."""
    return Session(WinRMShell(host, credentials()))


class WinRMShell:
    """A shell on a host in which PowerShell runs the session's script (host/transport.py)."""

    def __init__(self, host: ConfiguredHost, credentials: Credentials) -> None:
        self._host = host
        self._credentials = credentials
        self._lock = threading.Lock()
        self._connection: WSManConnection | None = None
        self._shell = self._command = ""
        self._reset_output()
        self._broken = False
        try:
            self._start()
        except BaseException:  # an interruption, too
            self._delete()
            raise

    def _reset_output(self) -> None:
        self._lines: deque[bytes] = deque()
        self._partial = bytearray()
        self._output_lost = False
        self._receive_open_until = 0.0

    # Starting

    def _start(self) -> None:
        """Start a shell and the script, in several attempts. A shell left by a broken connection is
        deleted, or ends by its idle timeout: it has mounted nothing."""
        for attempt in range(_START_ATTEMPTS):
            try:
                self._start_once()
                return
            except (ConnectionBroke, TimedOut, Busy, PipeClosed) as error:
                self._broken = True
                self._delete()
                if attempt == _START_ATTEMPTS - 1:
                    if isinstance(error, ConnectionBroke):
                        raise
                    raise HostFailed(
                        f"{self._host.name}: the host took too long to start a shell",
                        hint="It is busy: try again later.",
                    ) from None
                time.sleep(0.5 * attempt)

    def _start_once(self) -> None:
        self._reset_output()
        self._stderr: deque[bytes] = deque(maxlen=_MAX_STDERR_PARTS)
        self._exit_code: int | None = None
        self._closing = self._greeted = self._broken = False
        path = self._host.script
        quoted = _quote(path)
        self._connection = connection = WSManConnection(self._host, self._credentials)
        self._shell = connection.open_shell({"IMAGETOOL_SCRIPT": path} if path else {})
        if path:
            self._verify_script(connection, path)
            arguments = ["-File", quoted, "-LeaseSeconds", str(LEASE_SECONDS)]
        else:
            arguments = ["-EncodedCommand", _encode_command(bootstrap_command(LEASE_SECONDS))]
        self._command = connection.run(self._shell, _POWERSHELL, [*_OPTIONS, *arguments])
        if not path:
            lines = script_lines()
            with contextlib.suppress(PipeClosed):  # its first line of output says why
                for start in range(0, len(lines), MAX_INPUT_BYTES):
                    connection.send(
                        self._shell, self._command, lines[start : start + MAX_INPUT_BYTES]
                    )

    def _verify_script(self, connection: WSManConnection, path: str) -> None:
        """Check the SHA-256 of the script installed on the host. Raises HostFailed."""
        command = connection.run(
            self._shell, _POWERSHELL, [*_OPTIONS, "-EncodedCommand", _encode_command(_HASH_COMMAND)]
        )
        stdout, stderr, code = b"", b"", None
        end = time.monotonic() + _EXIT_TIMEOUT
        while code is None:
            if time.monotonic() > end:
                raise HostFailed(f"{self._host.name}: the hash of {path} was not told in time")
            with contextlib.suppress(TimedOut):
                out, err, code = connection.receive(self._shell, command, 20)
                stdout, stderr = stdout + out, stderr + err
        connection.terminate(self._shell, command)
        failure = startup_error(stdout, self._host.name)
        if failure is not None:
            raise failure
        found = stdout.decode("ascii", "replace").strip().lower()
        wanted = self._host.script_sha256.lower() or sha256(read_script()).hexdigest()
        if found == wanted:
            return
        if not re.fullmatch("[0-9a-f]{64}", found):
            ended = exit_error(self._host.name, code, stderr_text(stderr) or "no hash came back")
            why = ended.message.partition("): ")[2]
            raise HostFailed(
                f"{self._host.name}: {path} cannot be read there: {why}",
                hint="Install session.ps1 there, or leave script out of the configuration.",
            )
        raise HostFailed(
            f"{self._host.name}: {path} is not this version's session.ps1 (its SHA-256 is "
            f"{found}, expected is {wanted})",
            hint="Install it anew; where it is signed there, name its hash in the configuration "
            "(script_sha256).",
        )

    # Transport

    def send(self, data: bytes) -> None:
        """As Transport.send."""
        for start in range(0, len(data), MAX_INPUT_BYTES):
            self._send(data[start : start + MAX_INPUT_BYTES])

    def _send(self, data: bytes, end: bool = False) -> None:
        patience = time.monotonic() + _BUSY_TIMEOUT
        pause = 0.5
        while True:
            try:
                with self._operation() as connection:
                    connection.send(self._shell, self._command, data, end)
                return
            except PipeClosed:
                return  # receive_line raises the reason
            except TimedOut:
                # It may have been taken: the session repeats it, and the script runs it once.
                raise ConnectionBroke(
                    f"{self._host.name}: the host did not confirm in time what it was sent"
                ) from None
            except Busy:
                if time.monotonic() + pause > patience:
                    raise HostFailed(
                        f"{self._host.name}: the host is too busy to take what it is sent",
                        hint="Try again later.",
                    ) from None
                time.sleep(pause)
                pause = min(pause * 2, 5.0)

    def receive_line(self, timeout: float) -> bytes | None:
        """As Transport.receive_line."""
        end = time.monotonic() + timeout
        while not self._lines:
            if self._exit_code is not None:
                raise exit_error(
                    self._host.name, self._exit_code, stderr_text(b"".join(self._stderr))
                )
            left = end - time.monotonic()
            if left <= 0:
                return None
            self._receive(left)
        return self._lines.popleft()

    def _receive(self, patience: float) -> None:
        """Receive output, error and exit code, where any come in `patience` seconds."""
        seconds = min(math.ceil(patience), OPERATION_TIMEOUT)
        try:
            with self._operation(receiving=seconds) as connection:
                out, err, code = connection.receive(self._shell, self._command, seconds)
        except TimedOut:
            time.sleep(0.01)  # lets the thread that renews the lease take the lock
            return
        except Busy:
            time.sleep(1.0)
            return
        except PipeClosed:
            self._exit_code = -1
            return
        if err:
            self._stderr.append(err)
        self._partial += out
        if len(self._partial) > MAX_LINE_BYTES:
            raise endless_line(self._host.name)
        if b"\n" in out:
            *lines, self._partial = self._partial.split(b"\n")
            for line in lines:
                self._add_line(bytes(line))
        if code is not None:
            self._exit_code = code
            if self._partial:
                self._add_line(bytes(self._partial))
                self._partial.clear()

    def _add_line(self, line: bytes) -> None:
        if not self._greeted and line.strip():
            failure = startup_error(line, self._host.name)
            if failure is not None:
                raise failure
            self._greeted = True
        self._lines.append(line)

    @contextmanager
    def _operation(self, receiving: int = 0) -> Iterator[WSManConnection]:
        """Lock and yield the connection for one operation; note a failure that breaks it.

        `receiving`: the seconds that the host holds a Receive open; 0 for other operations.
        """
        with self._lock:
            if self._broken or self._connection is None:
                raise ConnectionBroke(f"{self._host.name}: the connection broke")
            begun = time.monotonic()
            try:
                yield self._connection
            except (TimedOut, Busy, PipeClosed):
                raise
            except BaseException as error:
                # An interruption (Ctrl-C) leaves half an answer in the connection.
                if isinstance(error, ConnectionBroke) or not isinstance(error, Exception):
                    self._broken = True
                    if receiving:
                        self._output_lost = True
                        self._receive_open_until = begun + receiving + _RECEIVE_MARGIN
                raise

    def reconnect(self, await_answers: bool = True) -> None:
        """As Transport.reconnect: another connection to the same shell."""
        with self._lock:
            if not self._broken:
                return
            if self._connection is not None:
                self._connection.close()
            if self._output_lost:
                # A Receive that was cut off stays open on the host, and would take the next output.
                if await_answers:
                    time.sleep(max(0.0, self._receive_open_until - time.monotonic()))
                self._reset_output()
            if self._greeted:
                self._connection = WSManConnection(self._host, self._credentials, reconnecting=True)
                self._broken = False
                return
        # Its `hello` may be lost, and no request was sent: start another shell.
        self._delete()
        self._start()

    # Ending

    def close(self) -> None:
        """As Transport.close."""
        try:
            if self._command and not self._closing:
                self._closing = True
                self._await_end()
        except (HostFailed, TimedOut, Busy, PipeClosed) as error:
            _log.debug("ending the session with %s: %s", self._host.name, error)
        finally:
            self._delete()

    def _await_end(self) -> None:
        """Close standard input, and wait for the script to dismount what it mounted and exit."""
        end = time.monotonic() + _EXIT_TIMEOUT
        close_sent, failures = False, 0
        while self._exit_code is None and time.monotonic() < end:
            try:
                if self._broken:
                    self.reconnect(await_answers=False)
                if not close_sent:
                    self._send(b"\n" + RequestFrame(0, "close").encode(), end=True)
                    close_sent = True
                self._receive(end - time.monotonic())
                self._lines.clear()
            except ConnectionBroke:
                failures += 1
                if failures == _CLOSE_ATTEMPTS:
                    raise

    def _delete(self) -> None:
        """Delete the shell, which ends the commands that still run there; never raises."""
        with self._lock:
            connection, shell = self._connection, self._shell
            self._connection, self._shell, self._command = None, "", ""
            if connection is None:
                return
            try:
                if shell and self._broken:
                    connection.close()
                    connection = WSManConnection(self._host, self._credentials, reconnecting=True)
                if shell:
                    with contextlib.suppress(TimedOut, Busy, PipeClosed):
                        connection.delete(shell)
            except HostFailed as error:
                _log.warning(
                    "%s may still hold a shell for %d seconds: %s",
                    self._host.name, IDLE_TIMEOUT, error.message,
                )  # fmt: skip
            finally:
                connection.close()


# The shell's environment carries the path, so that it never becomes source text.
_HASH_COMMAND = (
    f"{VERSION_CHECK}; "  # of an old one the script itself could not say so
    "$ErrorActionPreference = 'Stop'; "
    "if ([string] $ExecutionContext.SessionState.LanguageMode -eq 'FullLanguage') { "
    "$file = [IO.File]::OpenRead($env:IMAGETOOL_SCRIPT); "
    "[BitConverter]::ToString([Security.Cryptography.SHA256]::Create().ComputeHash($file))"
    ".Replace('-', '') } "
    "else { (Get-FileHash -LiteralPath $env:IMAGETOOL_SCRIPT -Algorithm SHA256).Hash }"
)
_UNQUOTABLE = re.compile(r'["%^&|<>!\x00-\x1f]')


def _encode_command(command: str) -> str:
    return base64.b64encode(command.encode("utf-16-le")).decode("ascii")


def _quote(path: str) -> str:
    """Return a path quoted for a command line that cmd.exe parses. Raises WrongUsage."""
    if _UNQUOTABLE.search(path):
        raise WrongUsage(
            f"{path!r} cannot be named on a command line of Windows",
            hint="Install the script under a name without these characters.",
        )
    return f'"{path}"'
