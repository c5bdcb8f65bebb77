"""A side of a disc: one tree of files, or the reason why it cannot be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from imagetool.contracts import Source
from imagetool.disk.extents import HOLE, ExtentMap
from imagetool.errors import Corrupt, ImagetoolError, Unsupported

SECTOR = 2048
"""The size in bytes of a sector (ECMA-119, 6.1.2; OSTA UDF 2.60, 2.2.4)."""

DAMAGED_HINT = "The disc is truncated or damaged: compare it with its origin."


Extents = tuple[tuple[int, int, int], ...]
"""Offset in the file, length, and offset on the disc or HOLE, all in bytes."""


def join_extents(extents: Iterable[tuple[int, int]]) -> Extents:
    """Lay extents (length, offset on the disc or HOLE) one after the other; neighbours are one."""
    found: list[tuple[int, int, int]] = []
    position = 0
    for length, offset in extents:
        start, size, first = found[-1] if found else (0, 0, HOLE)
        if found and (offset == first == HOLE or (first != HOLE and offset == first + size)):
            found[-1] = (start, size + length, first)
        else:
            found.append((position, length, offset))
        position += length
    return tuple(found)


@dataclass(frozen=True, slots=True)
class DiscFile:
    """A file on a disc: path with /, size in bytes, and where its bytes lie."""

    path: str
    size: int
    extents: Extents = ()
    target: str | None = None
    """The path that a symbolic link leads to; None for a regular file."""
    refusal: str = ""
    """The reason for which its bytes cannot be read as they are; empty if they can."""

    def open(self, source: Source) -> Source:
        """Open the file as a source.

        Raises Unsupported for a link and for what cannot be read, Corrupt if it extends beyond the
        disc.
        """
        name = f"{source.name}: {self.path}"
        if self.target is not None:
            raise Unsupported(
                f"{name}: this is a symbolic link to {self.target}, which has no bytes",
                hint="Name the file that it leads to.",
            )
        if self.refusal:
            raise Unsupported(f"{name}: {self.refusal}", hint="Copy the file from a mounted disc.")
        for _, length, offset in self.extents:
            if offset != HOLE and offset + length > source.size:
                raise Corrupt(
                    f"{name}: {length} bytes from offset {offset} lie beyond the end of the disc "
                    f"({source.size} bytes)",
                    hint=DAMAGED_HINT,
                )
        return ExtentMap(source, self.extents, self.size, name)


@dataclass(frozen=True, slots=True)
class Side:
    """The files that a disc shows by one of its standards."""

    name: str
    """UDF, Joliet, Rock Ridge or ISO 9660."""
    files: tuple[DiscFile, ...] = ()
    error: ImagetoolError | None = None
    """The reason for which the tree cannot be read; then there are no files."""


def check_name(name: str, disc: str) -> str:
    """Return a name of a directory entry. Raises Corrupt for one that no directory may hold."""
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise damaged(disc, f"a file of the name {name!r}")
    return name


def damaged(disc: str, reason: str) -> Corrupt:
    """Return the error for a tree that cannot be read."""
    return Corrupt(f"{disc}: the disc cannot be read: {reason}", hint=DAMAGED_HINT)
