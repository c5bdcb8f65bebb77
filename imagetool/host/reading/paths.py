"""Paths on a host, by the rules of the host's system, wherever imagetool runs."""

from __future__ import annotations

import ntpath
import posixpath


def dirname(path: str, windows: bool) -> str:
    """The directory that a file lies in; empty for the session's own."""
    return ntpath.dirname(path) if windows else posixpath.dirname(path)


def join(folder: str, name: str, windows: bool) -> str:
    """The path of a file in a directory. `name` is never anything but a name."""
    separators = "\\/:" if windows else "/"  # behind the colon of a bare drive comes no mark
    return (
        f"{folder}{name}"
        if not folder or folder[-1] in separators
        else f"{folder}{separators[0]}{name}"
    )


def canonical(path: str, windows: bool) -> str:
    """A path that is the same for all ways of writing it; links are not followed."""
    if windows:
        return ntpath.normcase(ntpath.normpath(path))
    return posixpath.normpath(path)
