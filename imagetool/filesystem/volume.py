"""What every file system offers: a volume, its nodes, their data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Protocol

from imagetool.disk.source import Source

FILE_ATTRIBUTE_REPARSE_POINT = 0x400
"""A link, or a file that a filter keeps; [MS-FSCC] 2.6."""


class Entry(Protocol):
    """A name in a directory, and what the directory knows of the file."""

    @property
    def name(self) -> str:
        """The long name."""

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""

    @property
    def size(self) -> int:
        """The size in bytes, as the directory last heard of it."""

    @property
    def modified(self) -> datetime:
        """When the content changed, in UTC, as the directory last heard of it."""

    @property
    def attributes(self) -> int:
        """FILE_ATTRIBUTE_…, [MS-FSCC] 2.6."""


class Node(Protocol):
    """A file or directory of a volume."""

    @property
    def volume(self) -> Volume:
        """Where it lies."""

    @property
    def path(self) -> str:
        """The path as it was asked for, with backslashes and without a leading one."""

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""

    @property
    def size(self) -> int:
        """The size of the data in bytes; 0 for a directory."""

    @property
    def modified(self) -> datetime:
        """When the content changed, in UTC."""

    @property
    def attributes(self) -> int:
        """FILE_ATTRIBUTE_…, [MS-FSCC] 2.6."""

    def open(self, stream: str = "") -> Source:
        """The data, or that of an alternate stream. Raises NotFound, Unsupported, Encrypted."""

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """What a directory holds, in the order of its index; with a prefix only such names."""

    def streams(self) -> tuple[str, ...]:
        """The names of the alternate streams."""


class Volume(Protocol):
    """A file system that can be read."""

    @property
    def file_system(self) -> str:
        """NTFS."""

    @property
    def label(self) -> str:
        """The volume's name."""

    @property
    def identifier(self) -> str:
        """The serial number, 16 hexadecimal digits."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What would hinder servicing: a dirty or hibernated volume."""

    def find(self, path: str) -> Node | None:
        """The node at `path` (/ or \\, any case), or None."""

    def find_many(self, paths: Sequence[str]) -> Sequence[Node | None]:
        """The nodes at several paths, found in step so that reads come in batches."""

    def lookup(self, path: str) -> Node:
        """The node at `path`. Raises NotFound."""
