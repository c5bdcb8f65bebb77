"""The directories of UDF.

Sources: ECMA-167 4/14.4 (file identifiers), 4/14.16 (paths of links), OSTA UDF 2.60, 2.1.1 (names).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from imagetool.contracts import Source
from imagetool.disk.extents import ExtentMap
from imagetool.disk.source import read_exactly
from imagetool.errors import Corrupt, Unsupported
from imagetool.package.disc.side import SECTOR, DiscFile, Side, check_name, damaged
from imagetool.package.disc.tree import walk
from imagetool.package.disc.udf import tags
from imagetool.package.disc.udf.entries import DIRECTORY, LINK, REGULAR, FileEntry, read_entry
from imagetool.package.disc.udf.tags import Address
from imagetool.package.disc.udf.volume import UdfVolume

_DELETED, _PARENT = 4, 8
_FIXED_SIZE = 38
_MAX_LINK_SIZE = 1 << 16
_ROOTS, _UP, _HERE, _NAME = (1, 2), 3, 4, 5
_FIRST_DESCRIPTOR = 16
_MAX_DESCRIPTORS = 256


def read_udf_side(source: Source) -> Side | None:
    """Read the tree of UDF; None if the disc has no UDF (ECMA-167, 2/9). Raises BudgetSpent."""
    if not _has_udf(source):
        return None
    try:
        volume = UdfVolume(source)
        read = partial(_read_directory, volume)
        return Side("UDF", tuple(walk(source, _read_root(volume), read)))
    except (Corrupt, Unsupported) as error:
        return Side("UDF", error=error)


def _has_udf(source: Source) -> bool:
    for sector in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + _MAX_DESCRIPTORS):
        kind = source.read_at(sector * SECTOR, 6)[1:]
        if kind in (b"NSR02", b"NSR03"):
            return True
        if kind not in (b"CD001", b"BEA01", b"BOOT2", b"TEA01", b"CDW02"):
            return False
    return False


class _Identifier(NamedTuple):
    """A file identifier: a name in a directory, and the address of its file entry."""

    name: str
    address: Address


def _identifiers(volume: UdfVolume, directory: FileEntry) -> Iterator[_Identifier]:
    """Go through the names of a directory, without its parent and deleted ones."""
    source = volume.source
    source.budget.spend(source.name, 1, directory.size)
    listing = ExtentMap(source, directory.extents, directory.size, source.name)
    data = read_exactly(listing, 0, directory.size, "a directory")
    offset = 0
    while offset < len(data):
        source.budget.spend(source.name, 1)
        if offset + _FIXED_SIZE > len(data):
            raise damaged(source.name, "a directory of UDF ends early")
        characteristics, length = data[offset + 18], data[offset + 19]
        (use,) = struct.unpack_from("<H", data, offset + 36)
        start = offset + _FIXED_SIZE + use
        end = start + length
        following = (end + 3) & ~3
        if end > len(data) or tags.identify(data[offset:following]) != tags.FILE_IDENTIFIER:
            raise damaged(source.name, "an entry of a directory of UDF is damaged")
        if not characteristics & (_DELETED | _PARENT):
            name = check_name(_decode(data[start:end], source.name), source.name)
            yield _Identifier(name, Address.parse(data, offset + 20))
        offset = following


def _decode(data: bytes, disc: str) -> str:
    """Decode a name: bytes or UTF-16 units, as its first byte says (OSTA UDF 2.60, 2.1.1)."""
    if not data:
        return ""
    if data[0] in (8, 254):
        return data[1:].decode("latin-1")
    if data[0] in (16, 255) and len(data) % 2:
        return data[1:].decode("utf-16-be", "surrogatepass")
    raise damaged(disc, f"a name in the encoding {data[0]}")


def _read_root(volume: UdfVolume) -> FileEntry:
    root = read_entry(volume, volume.root)
    if root.kind != DIRECTORY:
        raise damaged(volume.source.name, "the root of UDF is no directory")
    return root


def _read_directory(
    volume: UdfVolume, directory: FileEntry, folder: str
) -> Iterator[DiscFile | tuple[str, FileEntry]]:
    """Go through the files of a directory and the directories in it. Raises Corrupt."""
    for identifier in _identifiers(volume, directory):
        entry = read_entry(volume, identifier.address)
        path = folder + identifier.name
        if entry.kind == DIRECTORY:
            yield path, entry
        elif entry.kind == LINK:
            yield DiscFile(path, 0, target=_target(volume, entry))
        else:
            refusal = "" if entry.kind in (0, REGULAR) else "this is no regular file"
            yield DiscFile(path, entry.size, entry.extents, refusal=refusal)


def _target(volume: UdfVolume, entry: FileEntry) -> str:
    """Read where a symbolic link leads (ECMA-167, 4/14.16)."""
    source = volume.source
    if entry.size > _MAX_LINK_SIZE:
        raise damaged(source.name, f"a symbolic link of {entry.size} bytes")
    listing = ExtentMap(source, entry.extents, entry.size, source.name)
    data = read_exactly(listing, 0, entry.size, "a symbolic link")
    parts: list[str] = []
    while data:
        if len(data) < 4 or len(data) < 4 + data[1]:
            raise damaged(source.name, "the path of a symbolic link ends early")
        kind, name, data = data[0], data[4 : 4 + data[1]], data[4 + data[1] :]
        if kind in _ROOTS:
            parts = [""]
        elif kind in (_UP, _HERE):
            parts.append(".." if kind == _UP else ".")
        elif kind == _NAME:
            parts.append(_decode(name, source.name))
    return "/".join(parts) or "/"
