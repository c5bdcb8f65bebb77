"""Paths on a host, by the rules of the host's system, wherever imagetool runs."""

from __future__ import annotations

import ntpath
import posixpath


def dirname(path: str, windows: bool) -> str:
    """Return the directory of a path; empty for a bare file name, relative to the session's."""
    return ntpath.dirname(path) if windows else posixpath.dirname(path)


def join(folder: str, name: str, windows: bool) -> str:
    """Return the path of a file in a directory. `name` is a bare name, never a path."""
    separators = "\\/:" if windows else "/"  # a bare drive (C:) takes no separator
    return (
        f"{folder}{name}"
        if not folder or folder[-1] in separators
        else f"{folder}{separators[0]}{name}"
    )


def canonical(path: str, windows: bool) -> str:
    """Return one spelling for all spellings of a path; links are not resolved."""
    if windows:
        return ntpath.normcase(ntpath.normpath(path))
    return posixpath.normpath(path)
