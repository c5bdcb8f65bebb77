"""Deletes what a session owns, as the script on a host does at its end (session.ps1)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from imagetool.lab.locks import is_locked


def delete_owned(paths: Sequence[str]) -> None:
    """Delete files, and directories with their files, the last first; not a file that is in use.

    Of a directory in a directory only an empty one is deleted: a volume may be mounted there.
    """
    for path in map(Path, reversed(paths)):
        with contextlib.suppress(OSError):  # nobody is left to tell
            if path.is_dir():
                for item in path.iterdir():
                    if item.is_dir() and not item.is_symlink():
                        item.rmdir()
                    else:
                        item.unlink()
                path.rmdir()
            elif path.exists() and not is_locked(path):
                path.unlink()
