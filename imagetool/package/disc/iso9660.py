"""ISO 9660 and Joliet: volume descriptors and directories.

Sources: ECMA-119 (4th edition), sections 8 (volume descriptors) and 9 (directory records); Joliet
Specification 1.0.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from imagetool.contracts import Source
from imagetool.disk.source import read_exactly
from imagetool.errors import Corrupt, Unsupported
from imagetool.package.disc.rock_ridge import Posix, read_posix, read_skipped_length
from imagetool.package.disc.side import SECTOR, DiscFile, Side, check_name, damaged, join_extents
from imagetool.package.disc.tree import walk

_FIRST_DESCRIPTOR = 16
_MAX_DESCRIPTORS = 256
_PRIMARY, _SUPPLEMENTARY, _TERMINATOR = 1, 2, 255
_JOLIET = (b"%/@", b"%/C", b"%/E")
_DIRECTORY, _CONTINUES = 2, 0x80
_VERSION = re.compile(r";\d*$")


class _Record(NamedTuple):
    """A directory record (ECMA-119, 9.1)."""

    identifier: bytes
    offset: int
    """Of its extent, in bytes."""
    size: int
    is_directory: bool
    continues: bool
    is_interleaved: bool
    area: bytes
    """The system use area."""


@dataclass(frozen=True, slots=True)
class _Tree:
    """A tree of directories, and how its records are read."""

    source: Source
    block_size: int
    root: _Record
    encoding: str
    skipped: int | None = None
    """For Rock Ridge: the length before each system use area."""


def read_iso_sides(source: Source) -> list[Side]:
    """Read all trees of ISO 9660 in the order in which a system looks for them.

    Raises BudgetSpent.
    """
    primary: _Tree | None = None
    joliet: _Tree | None = None
    sides = []
    try:
        for descriptor in _descriptors(source):
            if descriptor[0] == _PRIMARY and primary is None:
                primary = _tree(source, descriptor, "ascii")
            elif descriptor[0] == _SUPPLEMENTARY and descriptor[88:91] in _JOLIET:
                joliet = joliet or _tree(source, descriptor, "utf-16-be")
    except (Corrupt, Unsupported) as error:
        sides.append(Side("ISO 9660", error=error))
    if joliet is not None:
        sides.insert(0, _side("Joliet", joliet))
    if primary is not None:
        sides += _primary_sides(primary)
    return sides


def _primary_sides(tree: _Tree) -> Iterator[Side]:
    """The primary tree by the names of Rock Ridge, where it has them, and by its own."""
    try:
        own = next(_records(tree, tree.root), None)
        skipped = read_skipped_length(own.area) if own is not None else None
    except (Corrupt, Unsupported):
        skipped = None
    if skipped is not None:
        yield _side("Rock Ridge", replace(tree, skipped=skipped))
    yield _side("ISO 9660", tree)


def _side(name: str, tree: _Tree) -> Side:
    try:
        return Side(name, tuple(walk(tree.source, tree.root, partial(_read_directory, tree))))
    except (Corrupt, Unsupported) as error:
        return Side(name, error=error)


def _descriptors(source: Source) -> Iterator[bytes]:
    """Go through the volume descriptors up to their terminator (ECMA-119, 8.1)."""
    for sector in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + _MAX_DESCRIPTORS):
        descriptor = source.read_at(sector * SECTOR, SECTOR)
        if len(descriptor) < SECTOR or descriptor[1:6] != b"CD001":
            return
        if descriptor[0] == _TERMINATOR:
            return
        yield descriptor


def _tree(source: Source, descriptor: bytes, encoding: str) -> _Tree:
    (block_size,) = struct.unpack_from("<H", descriptor, 128)
    if block_size not in (512, 1024, 2048):
        raise damaged(source.name, f"logical blocks of {block_size} bytes")
    root = _parse_record(descriptor[156:190], block_size, source.name)
    return _Tree(source, block_size, root, encoding)


def _parse_record(data: bytes, block_size: int, disc: str) -> _Record:
    """Parse a record of which `data` is the whole (ECMA-119, 9.1)."""
    name_length = data[32] if len(data) > 32 else 0
    end = 33 + name_length
    if len(data) < 34 or end > len(data) or not name_length:
        raise damaged(disc, f"a directory record of {len(data)} bytes")
    attributes, extent, size = data[1], *struct.unpack_from("<I4xI", data, 2)
    return _Record(
        identifier=data[33:end],
        offset=(extent + attributes) * block_size,
        size=size,
        is_directory=bool(data[25] & _DIRECTORY),
        continues=bool(data[25] & _CONTINUES),
        is_interleaved=bool(data[26] or data[27]),
        area=data[end + (1 - name_length % 2) :],
    )


def _records(tree: _Tree, directory: _Record) -> Iterator[_Record]:
    """Go through the records of a directory; the first two are its own and its parent's."""
    source, position = tree.source, 0
    while position < directory.size:
        length = min(SECTOR, directory.size - position)
        sector = read_exactly(source, directory.offset + position, length, "a directory")
        source.budget.spend(source.name, 1)
        if not position and (sector[0] < 34 or sector[33:34] != b"\0"):
            raise damaged(source.name, "a directory does not begin with itself")
        offset = 0
        while offset < length and sector[offset]:
            end = offset + sector[offset]
            if end > length:
                raise damaged(source.name, "a directory record goes beyond its sector")
            source.budget.spend(source.name, 1)
            yield _parse_record(sector[offset:end], tree.block_size, source.name)
            offset = end
        position += SECTOR


def _read_directory(
    tree: _Tree, directory: _Record, folder: str
) -> Iterator[DiscFile | tuple[str, _Record]]:
    """Go through the files of a directory and the directories in it. Raises Corrupt."""
    disc = tree.source.name
    parts: list[_Record] = []
    for record in _records(tree, directory):
        posix = _posix(tree, record)
        if record.identifier in (b"\0", b"\1") or (posix is not None and posix.is_moved):
            continue
        path = folder + check_name(_name(tree, record, posix), disc)
        if record.is_directory:
            yield path, record
        elif posix is not None and posix.child is not None:
            yield path, _directory_at(tree, posix.child)
        else:
            if parts and parts[-1].identifier != record.identifier:
                raise damaged(disc, "the parts of a file are not together")
            parts.append(record)
            if not record.continues:
                yield _file(path, parts, posix)
                parts = []
    if parts:
        raise damaged(disc, "the last part of a file is not there")


def _posix(tree: _Tree, record: _Record) -> Posix | None:
    if tree.skipped is None:
        return None
    return read_posix(tree.source, record.area[tree.skipped :], tree.block_size)


def _directory_at(tree: _Tree, block: int) -> _Record:
    """Return the own record of a directory that was moved (RRIP 4.1.5.1)."""
    offset = block * tree.block_size
    data = read_exactly(tree.source, offset, SECTOR, "a directory")
    return _parse_record(data[: data[0]], tree.block_size, tree.source.name)


def _name(tree: _Tree, record: _Record, posix: Posix | None) -> str:
    if posix is not None and posix.name is not None:
        return posix.name
    try:
        errors = "surrogatepass" if tree.encoding != "ascii" else "surrogateescape"
        name = record.identifier.decode(tree.encoding, errors)
    except UnicodeDecodeError:
        raise damaged(tree.source.name, "a name of half a character") from None
    if record.is_directory:
        return name
    name = _VERSION.sub("", name)
    return name.removesuffix(".") or name


def _file(path: str, parts: list[_Record], posix: Posix | None) -> DiscFile:
    """Put a file together from the records of its parts (ECMA-119, 6.5.1)."""
    if posix is not None and posix.target is not None:
        return DiscFile(path, 0, target=posix.target)
    refusal = posix.refusal if posix is not None else ""
    if any(part.is_interleaved for part in parts):
        refusal = "its parts are interleaved with others, which is not read"
    size = sum(part.size for part in parts)
    extents = join_extents((part.size, part.offset) for part in parts)
    return DiscFile(path, size, extents, refusal=refusal)
