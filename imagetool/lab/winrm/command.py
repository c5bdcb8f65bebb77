"""A command in a shell: its process, its output and its input.

Output is delivered once. A process that writes more than its client receives blocks on its pipe, as
on Windows; a client that sends more than the process reads has to wait.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import IO, NamedTuple

from imagetool.host.environment import child_environment
from imagetool.lab.winrm import soap_faults

_MAX_BUFFERED_SIZE = 1 << 20
_READ_SIZE = 64 << 10
_DRAIN_TIMEOUT = 2.0
_STATUS_CONTROL_C_EXIT = 0xC000013A - (1 << 32)


class CommandOutput(NamedTuple):
    """Output of a command, and its exit code at the end."""

    chunks: list[tuple[str, bytes]]
    """Name of the stream and bytes, in the order in which they were read."""
    exit_code: int | None
    """None while the command runs, or has output left."""


class Command:
    """A running program, or one that has ended without a process (fail)."""

    def __init__(self, identifier: str, console: bool) -> None:
        self.identifier = identifier
        self._console = console
        self._changed = threading.Condition()
        self._output: deque[tuple[str, bytes]] = deque()
        self._buffered_size = 0
        self._input: deque[bytes | None] = deque()
        self._queued_input_size = 0
        self._input_open = False
        self._exit_code: int | None = None
        self._interrupted = False
        self._terminated = False
        self._process: subprocess.Popen[bytes] | None = None
        self._threads: list[threading.Thread] = []
        self._reap_lock = threading.Lock()

    def fail(self, message: bytes, exit_code: int) -> None:
        """End without a process, with a message on standard error."""
        self._output.append(("stderr", message))
        self._exit_code = exit_code

    def start(
        self, program: Sequence[str], environment: Mapping[str, str], working_directory: str
    ) -> None:
        """Start the program, in a process group of its own. Raises OSError where it cannot."""
        process = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=environment,
            cwd=working_directory or None,
            start_new_session=sys.platform != "win32",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._process = process
        self._input_open = True
        assert process.stdin and process.stdout and process.stderr
        readers = [
            threading.Thread(
                target=self._read_output, args=("stdout", process.stdout), daemon=True
            ),
            threading.Thread(
                target=self._read_output, args=("stderr", process.stderr), daemon=True
            ),
        ]
        writer = threading.Thread(target=self._write_input, args=(process.stdin,), daemon=True)
        watcher = threading.Thread(target=self._watch, args=(process, readers), daemon=True)
        self._threads = [*readers, writer, watcher]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int | None:
        """The process's identifier while it runs, else None."""
        process = self._process
        return process.pid if process is not None and self._exit_code is None else None

    # Output

    def _read_output(self, name: str, stream: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := stream.read(_READ_SIZE):
                with self._changed:
                    self._changed.wait_for(
                        lambda: self._buffered_size < _MAX_BUFFERED_SIZE or self._terminated
                    )
                    if not self._terminated:
                        self._output.append((name, data))
                        self._buffered_size += len(data)
                        self._changed.notify_all()

    def _watch(self, process: subprocess.Popen[bytes], readers: list[threading.Thread]) -> None:
        ended = _wait(process)
        # Children that inherited the pipes may keep them open: do not wait for their end.
        end = time.monotonic() + _DRAIN_TIMEOUT
        for reader in readers:
            while reader.is_alive() and (
                time.monotonic() < end or self._buffered_size >= _MAX_BUFFERED_SIZE
            ):
                reader.join(0.05)
                if self._terminated:
                    break
        with self._changed:
            self._exit_code = _STATUS_CONTROL_C_EXIT if self._interrupted else ended
            self._input_open = False
            self._changed.notify_all()

    def receive(self, limit: int, timeout: float) -> CommandOutput | None:
        """Return up to `limit` bytes of output, and the exit code where none is left.

        Waits for `timeout` seconds at most, then returns None. Raises SoapFault where the command
        was terminated.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._output or self._exit_code is not None or self._terminated, timeout
            )
            if self._terminated:
                raise soap_faults.operation_aborted()
            chunks: list[tuple[str, bytes]] = []
            while self._output and limit > 0:
                name, data = self._output.popleft()
                if len(data) > limit:
                    self._output.appendleft((name, data[limit:]))
                    data = data[:limit]
                limit -= len(data)
                self._buffered_size -= len(data)
                chunks.append((name, data))
            done = not self._output and self._exit_code is not None
            if not chunks and not done:
                return None
            self._changed.notify_all()
            return CommandOutput(chunks, self._exit_code if done else None)

    # Input

    def send(self, data: bytes, end: bool, timeout: float) -> bool:
        """Queue input; return False if there was no room for it within `timeout` seconds.

        Raises SoapFault where standard input has ended, or the process has.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._queued_input_size < _MAX_BUFFERED_SIZE or not self._input_open,
                timeout,
            )
            if not self._input_open:
                raise soap_faults.input_closed()
            if self._queued_input_size >= _MAX_BUFFERED_SIZE:
                return False
            if self._console:
                # Bytes are keystrokes: the console echoes them, Enter is a carriage return, and a
                # line feed alone ends no line.
                self._output.append(("stdout", data))
                self._buffered_size += len(data)
                data = data.replace(b"\n", b"").replace(b"\r", b"\n")
            self._input.append(data)
            self._queued_input_size += len(data)
            if end:
                self._input.append(None)
                self._input_open = False
            self._changed.notify_all()
            return True

    def _write_input(self, stream: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            while True:
                with self._changed:
                    self._changed.wait_for(
                        lambda: self._input or self._exit_code is not None or self._terminated
                    )
                    data = self._input.popleft() if self._input else None
                if data is None:
                    break
                rest = memoryview(data)
                while rest:
                    rest = rest[stream.write(rest) :]
                with self._changed:
                    self._queued_input_size -= len(data)
                    self._changed.notify_all()
        with contextlib.suppress(OSError):
            stream.close()
        with self._changed:
            self._input_open = False
            self._changed.notify_all()

    # End

    def interrupt(self) -> None:
        """Ctrl-C or Ctrl-Break: ends the process where it has a console, else nothing."""
        if self._console and self._process is not None:
            self._interrupted = self._exit_code is None
            self.kill()

    def kill(self) -> None:
        """Kill the process and its children; their output can still be received."""
        process = self._process
        with self._reap_lock:
            if process is None or process.returncode is not None:
                return
            if sys.platform == "win32":
                taskkill = ["taskkill", "/T", "/F", "/PID", str(process.pid)]
                env = child_environment()
                subprocess.run(taskkill, capture_output=True, check=False, env=env)
            else:
                # The process may have ended: its children are still in the group.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)

    def terminate(self) -> None:
        """Kill the process and its children, and discard their output."""
        with self._changed:
            self._terminated = True
            self._input_open = False
            self._output.clear()
            self._changed.notify_all()
        self.kill()
        for thread in self._threads:
            thread.join(timeout=5)
        process = self._process
        if process is not None:
            with self._reap_lock:
                process.wait()
        if process is not None and not any(thread.is_alive() for thread in self._threads):
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for the process; return its exit code, 1 where a signal ended it.

    The process stays a zombie where the system allows it, so that its identifier, which is its
    group's, is not reused before the group is killed.
    """
    if hasattr(os, "waitid") and hasattr(os, "WNOWAIT"):
        with contextlib.suppress(ChildProcessError):  # it is reaped already
            ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            return ended.si_status if ended is not None and ended.si_code == os.CLD_EXITED else 1
    code = process.wait()
    return code if code >= 0 else 1
