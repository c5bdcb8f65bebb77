"""Volumes whose inodes have numbers, and whose directories map names to them: ext and XFS."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from imagetool.contracts import Source
from imagetool.filesystem.inode_volume import Inode, InodeVolume

BYTES_PER_ENTRY = 32
"""A small directory entry, in bytes; a directory costs a question an object for each so many."""
_INODES_PER_BATCH = 256
_LOOK_UPS_BEFORE_REMEMBERING = 4
_MAX_REMEMBERED_DIRECTORIES = 16
_MAX_REMEMBERED_NAMES = 65536


class NumberedInode(Inode, Protocol):
    """An inode with its number."""

    @property
    def number(self) -> int:
        """The number in the volume."""


NumberedInodeT = TypeVar("NumberedInodeT", bound=NumberedInode)


class NumberedVolume(InodeVolume[NumberedInodeT]):
    """A volume of numbered inodes: a file system adds their reading and that of directories."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._look_ups: dict[int, int] = {}
        self._names: dict[int, dict[bytes, int]] = {}

    @abstractmethod
    def read_inodes(self, numbers: Sequence[int]) -> list[NumberedInodeT]:
        """Inodes by their numbers, read together. Raises Corrupt."""

    @abstractmethod
    def directory_entries(self, directory: NumberedInodeT) -> Iterator[tuple[bytes, int]]:
        """The names in a directory and their inode numbers, without "." and "..".

        Raises Corrupt, Encrypted, BudgetSpent.
        """

    def child(self, directory: NumberedInodeT, name: str) -> NumberedInodeT | None:
        """As InodeVolume.child."""
        with self.source.budget:
            number = self._find_number(directory, name.encode("utf-8", "surrogateescape"))
        return None if number is None else self.read_inodes([number])[0]

    def children(self, directory: NumberedInodeT) -> Iterator[tuple[str, NumberedInodeT]]:
        """As InodeVolume.children; inodes are read in batches."""
        with self.source.budget:
            names = list(self.directory_entries(directory))
        for start in range(0, len(names), _INODES_PER_BATCH):
            batch = names[start : start + _INODES_PER_BATCH]
            inodes = self.read_inodes([number for _, number in batch])
            for (name, _), inode in zip(batch, inodes, strict=True):
                yield name.decode("utf-8", "surrogateescape"), inode

    def _find_number(self, directory: NumberedInodeT, name: bytes) -> int | None:
        """The inode number of a name in a directory.

        Its entries are gone through up to the name; a directory that is asked again and again is
        remembered, so that going through a tree takes no longer the larger its directories are.
        """
        key = directory.number
        known = self._names.get(key)
        if known is not None:
            return known.get(name)
        entries = self.directory_entries(directory)
        asked = self._look_ups[key] = self._look_ups.get(key, 0) + 1
        if asked <= _LOOK_UPS_BEFORE_REMEMBERING:
            return next((number for found, number in entries if found == name), None)
        if len(self._names) == _MAX_REMEMBERED_DIRECTORIES:
            self._look_ups.pop(next(iter(self._names)))
            del self._names[next(iter(self._names))]
        names: dict[bytes, int] = {}
        for found, number in entries:
            if len(names) == _MAX_REMEMBERED_NAMES:  # it is searched each time
                self._look_ups[key] = -(1 << 30)
                break
            names.setdefault(found, number)
        else:
            self._names[key] = names
            return names.get(name)
        return self._find_number(directory, name)
