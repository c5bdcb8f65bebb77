"""Sessions with this machine: its PowerShell as a child process that runs the script."""

from __future__ import annotations

import base64
import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from imagetool.errors import HostFailed
from imagetool.host.clixml import stderr_text
from imagetool.host.environment import child_environment
from imagetool.host.session import LEASE_SECONDS, Session
from imagetool.host.transport import (
    MAX_LINE_BYTES,
    bootstrap_command,
    endless_line,
    exit_error,
    script_lines,
    startup_error,
)

_MAX_WAITING_LINES = 16
_DRAINED_BYTES = 1 << 16
_EXIT_TIMEOUT = 60.0


def find_powershell(*, windows: bool = os.name == "nt") -> str | None:
    """Return the path of Windows PowerShell, else of pwsh; None without either.

    On Windows that is the system's own, and pwsh from a whole path in PATH: a search by name would
    begin in the current directory, where a program of that name may have come with a clone.
    """
    if not windows:
        return _search_path("powershell.exe") or _search_path("pwsh")  # the former under WSL
    root = Path(os.environ.get("SystemRoot", ""))  # noqa: SIM112  # its real name
    for system in ("Sysnative", "System32"):  # the former for a Python of 32 bits
        program = root / system / "WindowsPowerShell" / "v1.0" / "powershell.exe"
        if root.is_absolute() and program.is_file():
            return str(program)
    return _search_path("pwsh.exe")


def _search_path(name: str) -> str | None:
    """Return the first program of that name in PATH, whose relative entries do not count."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        program = Path(folder) / name
        if program.is_absolute() and program.is_file() and os.access(program, os.X_OK):
            return str(program)
    return None


def open_local(engine: str | None = None, environment: Mapping[str, str] | None = None) -> Session:
    """Open a session with the PowerShell of this machine. Raises HostFailed where there is none.

    `engine` is the path of another PowerShell; `environment` is added to the child's.
    """
    program = engine or find_powershell()
    if program is None:
        raise HostFailed(
            "there is no PowerShell on this machine (neither powershell.exe nor pwsh in PATH)",
            hint="Install PowerShell, or name another host.",
        )
    return Session(LocalProcess([program], environment or {}))


class LocalProcess:
    """A PowerShell process whose standard streams carry the frames (host/transport.py)."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        # What PowerShell 7 has set there names modules that Windows PowerShell cannot load.
        foreign = ["PSMODULEPATH"] if command[0].lower().endswith("powershell.exe") else []
        # The default policy of Windows clients (Restricted) runs no scripts, nor those of modules.
        options = ["-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass"]
        encoded = base64.b64encode(bootstrap_command(LEASE_SECONDS).encode("utf-16-le")).decode(
            "ascii"
        )
        try:
            self._process = subprocess.Popen(
                [*command, *options, "-EncodedCommand", encoded],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=child_environment(*foreign) | dict(environment),
                # Ctrl-C must reach imagetool only: it needs this process to undo its work.
                start_new_session=sys.platform != "win32",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except OSError as error:
            raise HostFailed(f"{command[0]} cannot be started: {error.strerror}") from None
        self._lines: queue.Queue[bytes | None] = queue.Queue(_MAX_WAITING_LINES)
        self._closing = False
        self._stderr: deque[bytes] = deque(maxlen=20)
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._stdin = self._process.stdin
        self._threads = [
            threading.Thread(target=self._read_lines, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_errors, args=(self._process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        self._started = False
        try:
            self.send(script_lines())
        except BaseException:  # an interruption, too
            self.close()
            raise

    def _read_lines(self, stream: IO[bytes]) -> None:
        line: bytes | None = b""
        while line is not None and not self._closing:
            line = stream.readline(MAX_LINE_BYTES) or None
            self._lines.put(line)
        while stream.read(_DRAINED_BYTES):  # what is said at the end is no reason to wait there
            pass

    def _read_errors(self, stream: IO[bytes]) -> None:
        while line := stream.readline(4096):
            self._stderr.append(line)

    def send(self, data: bytes) -> None:
        """As Transport.send."""
        try:
            self._stdin.write(data)
            self._stdin.flush()
        except (OSError, ValueError):
            # Lines that it wrote before its end are still to be received; the error comes after.
            if not self._lines.queue:
                raise self._exit_error() from None

    def reconnect(self) -> None:
        """Do nothing: a pipe does not break."""

    def receive_line(self, timeout: float) -> bytes | None:
        """As Transport.receive_line."""
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            return None
        if line is None:
            self._lines.put(None)
            raise self._exit_error()
        if len(line) == MAX_LINE_BYTES:
            raise endless_line("this machine")
        if not self._started:
            self._started = True
            failure = startup_error(line, "this machine")
            if failure is not None:
                raise failure
        return line

    def _exit_error(self) -> HostFailed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)
            self._threads[1].join(timeout=2)  # until standard error is read to its end
        message = stderr_text(b"".join(self._stderr))
        return exit_error("this machine", self._process.returncode, message)

    def close(self) -> None:
        """Close standard input, wait for the script to dismount and exit, else kill it."""
        self._closing = True
        with contextlib.suppress(queue.Empty):  # makes room for the line that the reader holds
            while True:
                self._lines.get_nowait()
        with contextlib.suppress(OSError, ValueError):
            self._stdin.close()
        try:
            self._process.wait(timeout=_EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join(timeout=5)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
