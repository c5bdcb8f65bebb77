"""Volumes whose directories map names to inodes: ext, XFS (numbered_volume.py), and FAT.

Paths, symbolic links and nodes are common to them; a file system adds the look-up of a name in a
directory, and the extents of a file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Generic, Protocol, TypeVar

from imagetool.contracts import Source
from imagetool.errors import Corrupt, NotFound
from imagetool.filesystem.volume import FILE_ATTRIBUTE_REPARSE_POINT

_MAX_LINKS = 40  # as Linux bounds them
_MAX_LINK_SIZE = 4096
_MAX_PENDING_NAMES = 4096

FILE_ATTRIBUTE_DIRECTORY = 0x10
FILE_ATTRIBUTE_NORMAL = 0x80


class FileType(Enum):
    """The type of an inode, as S_IFMT has it."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "symbolic link"
    OTHER = "device, pipe or socket"


_ATTRIBUTES = {
    FileType.DIRECTORY: FILE_ATTRIBUTE_DIRECTORY,
    FileType.LINK: FILE_ATTRIBUTE_REPARSE_POINT,
}


class Inode(Protocol):
    """A file without its names: its type, its size, its times."""

    @property
    def file_type(self) -> FileType:
        """File, directory, link, or something else."""

    @property
    def size(self) -> int:
        """The size of its data in bytes."""

    @property
    def modified(self) -> datetime:
        """The time of the last change of the content, in UTC."""

    @property
    def attributes(self) -> int:
        """FILE_ATTRIBUTE_…, [MS-FSCC] 2.6."""


InodeT = TypeVar("InodeT", bound=Inode)


def windows_attributes(file_type: FileType) -> int:
    """FILE_ATTRIBUTE_… for a file system that has no such attributes itself."""
    return _ATTRIBUTES.get(file_type, FILE_ATTRIBUTE_NORMAL)


@dataclass(frozen=True, slots=True)
class InodeEntry:
    """A directory entry, with the facts of its inode."""

    name: str
    is_directory: bool
    size: int
    modified: datetime
    attributes: int


class InodeVolume(ABC, Generic[InodeT]):
    """A volume; imagetool.filesystem.Volume describes its properties and methods."""

    file_system: str
    separators = "/"

    @property
    def warnings(self) -> tuple[str, ...]:
        """As Volume.warnings."""
        return ()

    @property
    def needs_replay(self) -> bool:
        """As Volume.needs_replay."""
        return False

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name = source.name

    @abstractmethod
    def root(self) -> InodeT:
        """The root directory."""

    @abstractmethod
    def child(self, directory: InodeT, name: str) -> InodeT | None:
        """The inode of `name` in a directory, links not followed; None where there is none."""

    @abstractmethod
    def children(self, directory: InodeT) -> Iterator[tuple[str, InodeT]]:
        """The names in a directory and their inodes, without "." and ".."."""

    @abstractmethod
    def open_data(self, inode: InodeT, name: str) -> Source:
        """The bytes of a file or link; messages call them `name`."""

    def find(self, path: str) -> InodeNode[InodeT] | None:
        """The node at `path`, links followed, or None."""
        names = self._reversed_names(path)
        trail = [self.root()]
        links = 0
        while names:
            name = names.pop()
            if trail[-1].file_type is not FileType.DIRECTORY:
                return None
            if name == "..":
                del trail[max(1, len(trail) - 1) :]
                continue
            inode = self.child(trail[-1], name)
            if inode is None:
                return None
            if inode.file_type is not FileType.LINK:
                trail.append(inode)
                continue
            links += 1
            target = self.read_link(inode, path)
            names += self._reversed_names(target)
            if links > _MAX_LINKS or len(names) > _MAX_PENDING_NAMES:
                raise Corrupt(
                    f"{self.name}: {path} goes through more than {_MAX_LINKS} symbolic links",
                    hint="The links lead back to themselves: name the file itself.",
                )
            if target.startswith("/"):
                del trail[1:]
        return InodeNode(self, trail[-1], self.separators[0].join(self._reversed_names(path)[::-1]))

    def _reversed_names(self, path: str) -> list[str]:
        """The components of a path, the last one first: a stack for `find`."""
        for separator in self.separators[1:]:
            path = path.replace(separator, self.separators[0])
        names = path.split(self.separators[0])
        return [name for name in reversed(names) if name not in ("", ".")]

    def read_link(self, inode: InodeT, path: str) -> str:
        """The target of a symbolic link. Raises Corrupt for one that is too long."""
        if inode.size > _MAX_LINK_SIZE:
            raise Corrupt(
                f"{self.name}: {path}: a symbolic link of {inode.size} bytes",
                hint="The volume is damaged: let the guest check it, or restore the image.",
            )
        data = self.open_data(inode, f"{self.name}: {path}").read_at(0, inode.size)
        return data.decode("utf-8", "surrogateescape")

    def find_many(self, paths: Sequence[str]) -> list[InodeNode[InodeT] | None]:
        """The nodes at several paths."""
        return [self.find(path) for path in paths]

    def lookup(self, path: str) -> InodeNode[InodeT]:
        """The node at `path`. Raises NotFound."""
        node = self.find(path)
        if node is None:
            raise NotFound(
                f"{self.name}: there is no file {path}",
                hint="`imagetool file list` shows what is there.",
            )
        return node


class InodeNode(Generic[InodeT]):
    """A file or directory; imagetool.filesystem.Node describes its properties and methods."""

    __slots__ = ("_inode", "_volume", "path")

    def __init__(self, volume: InodeVolume[InodeT], inode: InodeT, path: str) -> None:
        self._volume = volume
        self._inode = inode
        self.path = path

    @property
    def volume(self) -> InodeVolume[InodeT]:
        """The volume that it belongs to."""
        return self._volume

    @property
    def is_directory(self) -> bool:
        """True for a directory."""
        return self._inode.file_type is FileType.DIRECTORY

    @property
    def size(self) -> int:
        """The size of the data in bytes; 0 for a directory."""
        return 0 if self.is_directory else self._inode.size

    def open(self, stream: str = "") -> Source:
        """The data as a source. Raises NotFound for a directory, a device, an alternate stream."""
        name = f"{self._volume.name}: {self.path or 'the root'}"
        if stream:
            raise NotFound(f"{name}:{stream}: {self._volume.file_system} has no alternate streams")
        if self._inode.file_type is not FileType.FILE:
            raise NotFound(
                f"{name} is a {self._inode.file_type.value}",
                hint="`imagetool file list` shows what is there.",
            )
        return self._volume.open_data(self._inode, name)

    def entries(self, prefix: str = "") -> Iterator[InodeEntry]:
        """The entries of a directory, in its order; with a prefix only such names, in any case."""
        if not self.is_directory:
            raise NotFound(
                f"{self._volume.name}: {self.path} is no directory", hint="`file read` reads it."
            )
        start = prefix.casefold()
        for name, inode in self._volume.children(self._inode):
            if name.casefold().startswith(start):
                directory = inode.file_type is FileType.DIRECTORY
                size = 0 if directory else inode.size
                yield InodeEntry(name, directory, size, inode.modified, inode.attributes)
