"""An emulated host that lasts: one process for a state directory, for all sessions.

The first session starts it. It ends when no session and no mount is left for some seconds. In the
directory are

    lock         locked while the process runs
    lab.toml     its configuration, written by whoever uses it (configuration.py)
    endpoint     port and secret of its door
    state.json   the mounted disks, written after each cmdlet; a later process goes on with them
    modules/     the PowerShell modules that stand in for Windows' own
    log          what went wrong in the process
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from imagetool.errors import CannotOpen, HostFailed
from imagetool.host.environment import child_environment
from imagetool.lab.emulated_host import EmulatedHost
from imagetool.lab.host_client import Door, HostEnded
from imagetool.lab.host_server import HostServer
from imagetool.lab.locks import is_locked, lock_file
from imagetool.lab.stand_ins import write_modules

T = TypeVar("T")

DIRECTORY_VARIABLE = "IMAGETOOL_LAB"
"""The environment variable that names another state directory."""

_IDLE_SECONDS = 5.0
_START_SECONDS = 30.0
_RESTART_SECONDS = 5.0
"""Seconds after which another process is started, and that a process waits for an earlier one."""
_POLL_SECONDS = 0.02
_PROGRAM = """\
import os, sys
if hasattr(os, "fork") and os.fork():
    os._exit(0)
from pathlib import Path
from imagetool.lab.lasting_host import main
main(Path(sys.argv[1]))
"""


def state_directory() -> Path:
    """Return the state directory, private to this user; make it where it is missing.

    Raises CannotOpen where it cannot be used.
    """
    named = os.environ.get(DIRECTORY_VARIABLE)
    if named:
        directory = Path(named).absolute()
    else:
        from platformdirs import user_state_path

        directory = user_state_path("imagetool", appauthor=False) / "lab"
    hint = f"Name another directory with {DIRECTORY_VARIABLE}."
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise CannotOpen(f"{directory}: cannot be made: {error.strerror}", hint=hint) from None
    private = found.st_mode & 0o022 == 0 and (not hasattr(os, "getuid") or _is_mine(found))
    if not stat.S_ISDIR(found.st_mode) or not private:
        raise CannotOpen(f"{directory}: others may write here", hint=hint)
    return directory


def _is_mine(found: os.stat_result) -> bool:
    return sys.platform == "win32" or found.st_uid == os.getuid()


def modules_directory(directory: Path) -> Path:
    """Return the directory of the PowerShell modules of a host that runs."""
    return directory / "modules"


def find_host(directory: Path) -> Door | None:
    """Return the door of the host that runs for a state directory; None where none does."""
    door = Door.read(directory / "endpoint")
    if door is None:
        return None
    try:
        door.status()
    except (OSError, HostFailed):
        return None
    return door


def with_host(directory: Path, use: Callable[[Door], T]) -> T:
    """Call `use` with the door of the host for a state directory, which is started if need be.

    Raises HostFailed where it does not start, and what `use` raises.
    """
    end, start_at = time.monotonic() + _START_SECONDS, 0.0
    while True:
        door = Door.read(directory / "endpoint")
        if door is not None:
            with contextlib.suppress(OSError, HostEnded):  # it has ended, or is about to
                return use(door)
        now = time.monotonic()
        if now > end:
            raise HostFailed(
                "the emulated host does not start", hint=f"Look into {directory / 'log'}."
            )
        if now > start_at:
            _start(directory)
            start_at = now + _RESTART_SECONDS
        time.sleep(_POLL_SECONDS)


def _start(directory: Path) -> None:
    """Start a process that becomes the host, unless one is; its parent ends at once."""
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=child_environment(),
            cwd=Path(__file__).resolve().parents[2],  # this package, wherever it lies
            start_new_session=sys.platform != "win32",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
    if sys.platform == "win32":
        process.returncode = 0  # nobody waits for it
    else:
        process.wait()


def reset_host(directory: Path) -> Mapping[str, object] | None:
    """Dismount every disk and end the host of a state directory, also one that does not answer.

    Returns what it had, as Door.status; None where none ran, whose state is forgotten. Raises
    HostFailed where it does not end.
    """
    door, status = find_host(directory), None
    if door is not None:
        status = door.status()
        with contextlib.suppress(OSError, HostEnded):
            door.ask(seconds=_RESTART_SECONDS, reset=True)
    end, kill_at = time.monotonic() + _START_SECONDS, time.monotonic() + _RESTART_SECONDS
    while (directory / "lock").exists() and is_locked(directory / "lock"):
        if status is not None and time.monotonic() > kill_at:
            _kill(int(str(status["process"])))
        if time.monotonic() > end:
            raise HostFailed(
                "the emulated host does not end", hint=f"Its files are in {directory}."
            )
        time.sleep(_POLL_SECONDS)
    (directory / "state.json").unlink(missing_ok=True)
    return status


def _kill(process: int) -> None:
    """Kill a host that hangs in a cmdlet, with its writers."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            os.kill(process, signal.SIGTERM)
        else:
            os.killpg(os.getpgid(process), signal.SIGKILL)


def _lock(directory: Path) -> int | None:
    """Lock the directory once an earlier process has ended; None where that goes on."""
    (directory / "lock").touch()
    end = time.monotonic() + _RESTART_SECONDS
    while time.monotonic() < end:
        try:
            return lock_file(directory / "lock")
        except BlockingIOError:
            if find_host(directory) is not None:
                return None
        time.sleep(_POLL_SECONDS)
    return None


def main(directory: Path) -> None:
    """Be the host of a state directory; return at once where another process is."""
    lock = _lock(directory)
    if lock is None:
        return
    endpoint = directory / "endpoint"
    emulated_host = EmulatedHost(state_file=directory / "state.json")
    server = HostServer(emulated_host)
    try:
        has_hyper_v = emulated_host.configuration.host.hyper_v
        write_modules(modules_directory(directory), hyper_v=has_hyper_v)
        server.write_endpoint(endpoint)
        server.wait_until_idle(_IDLE_SECONDS)
    finally:
        endpoint.unlink(missing_ok=True)
        server.close()
        os.close(lock)
