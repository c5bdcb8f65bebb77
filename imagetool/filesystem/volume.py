"""The interface of every file system: a volume, its nodes, their data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Protocol

from imagetool.contracts import Source

FILE_ATTRIBUTE_REPARSE_POINT = 0x400
"""A link, or a file whose data a file system filter provides; [MS-FSCC] 2.6."""


class Entry(Protocol):
    """A directory entry: a name, and the facts of the file that the directory repeats."""

    @property
    def name(self) -> str:
        """The long name."""

    @property
    def is_directory(self) -> bool:
        """True for a directory."""

    @property
    def size(self) -> int:
        """The size in bytes, as the directory has it: it may lag behind the file's own."""

    @property
    def modified(self) -> datetime:
        """The time of the last change of the content, in UTC, as the directory has it."""

    @property
    def attributes(self) -> int:
        """FILE_ATTRIBUTE_…, [MS-FSCC] 2.6."""


class Node(Protocol):
    """A file or directory of a volume."""

    @property
    def volume(self) -> Volume:
        """The volume that it belongs to."""

    @property
    def path(self) -> str:
        """The path as the caller gave it, with the volume's separator and without a leading one."""

    @property
    def is_directory(self) -> bool:
        """True for a directory."""

    @property
    def size(self) -> int:
        """The size of the data in bytes; 0 for a directory."""

    def open(self, stream: str = "") -> Source:
        """The data, or that of an alternate stream. Raises NotFound, Unsupported, Encrypted."""

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """The entries of a directory, in its order; with a prefix only those that begin with it.

        The prefix is compared in any case of letters. Raises NotFound for a file.
        """


def truncation_warnings(source: Source, size: int) -> tuple[str, ...]:
    """A warning where a volume of `size` bytes, as it states itself, does not fit into `source`."""
    if size <= source.size:
        return ()
    return (f"the volume is truncated: it states {size} bytes, and {source.size} are there",)


class Volume(Protocol):
    """A file system that can be read."""

    @property
    def file_system(self) -> str:
        """NTFS, ext, XFS or FAT."""

    @property
    def separators(self) -> str:
        """The characters between the names of a path, the first one in paths given out: \\ and /,
        or / alone where a backslash is part of a name."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about a state that hinders servicing: a dirty or hibernated volume."""

    @property
    def needs_replay(self) -> bool:
        """True if its journal holds writes that are not in place: files may be out of date.

        False for ext where it was replayed in memory, for FAT, and for NTFS, which marks itself
        dirty (`warnings`).
        """

    def find(self, path: str) -> Node | None:
        """The node at `path`, or None; NTFS and FAT ignore the case of letters."""

    def find_many(self, paths: Sequence[str]) -> Sequence[Node | None]:
        """The nodes at several paths, in the order of the paths; reads are batched."""

    def lookup(self, path: str) -> Node:
        """The node at `path`. Raises NotFound."""
