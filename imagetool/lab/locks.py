"""Locks on files, as the host that mounts them holds them.

flock(2) stands for the sharing rules of Windows: .NET opens with it on Unix, so that PowerShell
sees a mounted file as in use. A lock belongs to the open file, not to a process: whoever inherits
the descriptor holds it too. Where the system has no flock nothing is locked.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def lock_file(path: Path | str, *, exclusive: bool = True) -> int:
    """Open a file, lock it, and return the descriptor that holds the lock.

    Raises BlockingIOError where another holds it, OSError where it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY)
    if sys.platform != "win32":
        import fcntl

        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def is_locked(path: Path | str, *, exclusive: bool = True) -> bool:
    """True if a lock of that kind cannot be had now. Raises OSError."""
    try:
        os.close(lock_file(path, exclusive=exclusive))
    except BlockingIOError:
        return True
    return False
