"""The PowerShell of this machine, as a child process that runs the session's script."""

from __future__ import annotations

import base64
import contextlib
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from importlib.resources import files
from typing import IO

from imagetool.errors import HostFailed
from imagetool.host.session import Session

# The first word is plain text in the language alone, so that a host that restricts the language
# can still say so. One reader gets the script and everything behind it: a second one would lose
# what the first has buffered.
_BOOTSTRAP = (
    '"imagetool " + $ExecutionContext.SessionState.LanguageMode; '
    "$reader = [IO.StreamReader]::new([Console]::OpenStandardInput()); "
    "& ([scriptblock]::Create([Text.Encoding]::UTF8.GetString("
    "[Convert]::FromBase64String($reader.ReadLine())))) $reader"
)
_NEVER_PASSED_ON = ("IMAGETOOL_PASSWORD",)
_LONGEST_LINE = 64 << 20
_END_PATIENCE = 60.0


def find_engine() -> str | None:
    """The path of powershell.exe or pwsh, whichever PATH has."""
    return shutil.which("powershell.exe") or shutil.which("pwsh")


def open_local(engine: str | None = None, environment: Mapping[str, str] | None = None) -> Session:
    """A session with the PowerShell of this machine. Raises HostFailed where there is none.

    `environment` is added to that of this process for the child.
    """
    program = engine or find_engine()
    if program is None:
        raise HostFailed(
            "there is no PowerShell on this machine (neither powershell.exe nor pwsh in PATH)",
            hint="Install PowerShell, or name another host with --host.",
        )
    return Session(LocalProcess(program, environment or {}))


class LocalProcess:
    """A PowerShell process whose standard streams carry the frames (host/transport.py)."""

    def __init__(self, program: str, environment: Mapping[str, str]) -> None:
        # Windows clients allow no scripts by default, not even those of signed modules.
        options = ["-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass"]
        encoded = base64.b64encode(_BOOTSTRAP.encode("utf-16-le")).decode("ascii")
        inherited = {k: v for k, v in os.environ.items() if k not in _NEVER_PASSED_ON}
        try:
            self._process = subprocess.Popen(
                [program, *options, "-EncodedCommand", encoded],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=inherited | dict(environment),
                # Ctrl-C is for imagetool, which then undoes what it began, through this process.
                start_new_session=sys.platform != "win32",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except OSError as error:
            raise HostFailed(f"{program} cannot be started: {error.strerror}") from None
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._complaints: deque[bytes] = deque(maxlen=20)
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._stdin = self._process.stdin
        self._threads = [
            threading.Thread(target=self._read_lines, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_errors, args=(self._process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        script = files("imagetool.host").joinpath("session.ps1").read_bytes()
        try:
            self.send_line(base64.b64encode(script) + b"\n")
            self._check_language()
        except BaseException:
            self.close()
            raise

    def _check_language(self) -> None:
        first = self.receive_line(90.0)
        if first is None or first.split() != [b"imagetool", b"FullLanguage"]:
            mode = first.decode("ascii", "replace").strip() if first else "nothing"
            raise HostFailed(
                f"PowerShell's first word was {mode!r} instead of its full language",
                hint="Application control may restrict it: sign the script, or allow it there.",
            )

    def _read_lines(self, stream: IO[bytes]) -> None:
        while line := stream.readline(_LONGEST_LINE):
            self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self, stream: IO[bytes]) -> None:
        while line := stream.readline(4096):
            self._complaints.append(line)

    def send_line(self, line: bytes) -> None:
        """As Transport.send_line."""
        try:
            self._stdin.write(line)
            self._stdin.flush()
        except (OSError, ValueError):
            raise self._ended() from None

    def receive_line(self, timeout: float) -> bytes | None:
        """As Transport.receive_line."""
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            return None
        if line is None:
            self._lines.put(None)
            raise self._ended()
        return line

    def _ended(self) -> HostFailed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)
            self._threads[1].join(timeout=2)  # until its last words have been read
        said = b"".join(self._complaints).decode("utf-8", "replace").strip()
        last = said.splitlines()[-1][:300] if said else "it said nothing"
        return HostFailed(
            f"PowerShell ended (exit code {self._process.returncode}): {last}",
            hint="Start it by hand to see why; antimalware sometimes stops scripts.",
        )

    def close(self) -> None:
        """End the script's input and wait for the script to dismount and go; then kill it."""
        with contextlib.suppress(OSError, ValueError):
            self._stdin.close()
        try:
            self._process.wait(timeout=_END_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join(timeout=5)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
