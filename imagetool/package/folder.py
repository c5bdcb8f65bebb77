"""A package that lies in a folder: its regular files, and what else is there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from imagetool.disk.links import is_link, is_link_state
from imagetool.disk.local_files import FileSource
from imagetool.errors import CannotOpen, NotFound, Unsupported

_MAX_ENTRIES = 100_000
_MAX_DEPTH = 32


class FolderMember(NamedTuple):
    """An entry below a folder, with / between directories; `kind` is empty for a regular file."""

    name: str
    size: int
    kind: str


class Folder:
    """The files below a folder. Links are not followed; what is no regular file is named."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def entries(self) -> tuple[FolderMember, ...]:
        """List everything below the folder by name. Raises CannotOpen, Unsupported."""
        found = []
        for entry in self._walk(self._path, "", 0):
            found.append(entry)
            if len(found) > _MAX_ENTRIES:
                raise Unsupported(f"{self._path}: more than {_MAX_ENTRIES} files")
        return tuple(sorted(found))

    def _walk(self, path: Path, prefix: str, depth: int) -> Iterator[FolderMember]:
        if depth > _MAX_DEPTH:
            raise Unsupported(f"{path}: directories deeper than {_MAX_DEPTH}")
        try:
            with os.scandir(path) as listed:
                entries = list(listed)
            if not entries:
                yield FolderMember(prefix.rstrip("/"), 0, "an empty directory")
            for entry in entries:
                name, state = prefix + entry.name, entry.stat(follow_symlinks=False)
                kind = _kind(entry, state)
                if stat.S_ISDIR(state.st_mode) and not kind:
                    yield from self._walk(path / entry.name, f"{name}/", depth + 1)
                else:
                    yield FolderMember(name, state.st_size, kind)
        except OSError as error:
            raise CannotOpen(f"{path}: cannot be listed: {error.strerror}") from None

    def read(self, name: str) -> bytes:
        """Read a regular file that is reached through no link. Raises NotFound, CannotOpen."""
        parts = PurePosixPath(name).parts
        path = self._path
        for part in parts:
            path /= part
            if part == ".." or is_link(path):
                raise NotFound(f"{self._path}: there is no file {name} in it")
        is_file = os.path.isfile(path)  # noqa: PTH113  # of a name that no system has it is False
        if not parts or PurePosixPath(name).is_absolute() or not is_file:
            raise NotFound(f"{self._path}: there is no file {name} in it")
        if not path.stat().st_size:
            return b""
        with FileSource(path) as source:
            return source.read_at(0, source.size)


def _kind(entry: os.DirEntry[str], state: os.stat_result) -> str:
    """Name what is neither a regular file nor a directory of its own."""
    mode = state.st_mode
    if is_link_state(state):
        return "a link"
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"
