"""File entries of UDF: the kind of a file, and where its bytes lie.

Sources: ECMA-167 4/14.6 (ICB tags), 4/14.9 and 4/14.17 (file entries), 4/12.1 (allocation).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from imagetool.disk.extents import HOLE
from imagetool.errors import Unsupported
from imagetool.package.disc.side import SECTOR, damaged
from imagetool.package.disc.udf import tags
from imagetool.package.disc.udf.tags import Address
from imagetool.package.disc.udf.volume import Extents, UdfVolume

DIRECTORY, REGULAR, LINK = 4, 5, 12
"""Types of files (ECMA-167, 4/14.6.6)."""
_STRATEGY = 4
_SHORT, _LONG, _EMBEDDED = 0, 1, 3
_RECORDED, _MORE = 0, 3


class FileEntry(NamedTuple):
    """A file entry."""

    offset: int
    """Where it lies on the disc, in bytes."""
    kind: int
    size: int
    extents: Extents


def read_entry(volume: UdfVolume, address: Address) -> FileEntry:
    """Read the file entry at an address. Raises Corrupt, Unsupported, BudgetSpent."""
    source = volume.source
    offset = volume.locate(address)[0][1]
    wanted = (tags.FILE_ENTRY, tags.EXTENDED_ENTRY)
    data = tags.read_descriptor(source, offset, wanted, "file entry")
    strategy, kind, flags = struct.unpack_from("<H5xB6xH", data, 20)
    if strategy != _STRATEGY:
        raise Unsupported(f"{source.name}: UDF with file entries of strategy {strategy}")
    (size,) = struct.unpack_from("<Q", data, 56)
    lengths = 208 if tags.identify(data) == tags.EXTENDED_ENTRY else 168
    attributes, length = struct.unpack_from("<II", data, lengths)
    start = lengths + 8 + attributes
    if start + length > SECTOR:
        raise damaged(source.name, f"the file entry at offset {offset} is longer than a sector")
    allocation = flags & 7
    if allocation == _EMBEDDED:
        if size > length:
            raise damaged(source.name, f"the file entry at offset {offset} ends early")
        return FileEntry(offset, kind, size, ((0, size, offset + start),))
    if allocation not in (_SHORT, _LONG):
        raise Unsupported(f"{source.name}: UDF with extended allocation descriptors")
    listed = data[start : start + length]
    extents = _extents(volume, listed, address.partition, allocation == _LONG, size)
    return FileEntry(offset, kind, size, extents)


def _extents(volume: UdfVolume, listed: bytes, partition: int, long: bool, size: int) -> Extents:
    """Follow the allocation descriptors of a file, through all their extents."""
    source = volume.source
    width = 16 if long else 8
    found: list[tuple[int, int, int]] = []
    position = offset = 0
    while position < size:
        if offset + width > len(listed):
            raise damaged(source.name, f"a file of {size} bytes has extents for {position}")
        address = (
            Address.parse(listed, offset)
            if long
            else Address.parse_short(listed, offset, partition)
        )
        offset += width
        source.budget.spend(source.name, 1)
        if not address.length:
            raise damaged(source.name, f"a file of {size} bytes has extents for {position}")
        if address.kind == _MORE:
            there = volume.locate(address)[0][1]
            data = tags.read_descriptor(
                source, there, (tags.ALLOCATION_EXTENT,), "allocation extent"
            )
            (length,) = struct.unpack_from("<I", data, 20)
            listed, offset, partition = data[24 : 24 + length], 0, address.partition
            continue
        length = min(address.length, size - position)
        if address.kind == _RECORDED:
            for part, there in volume.locate(address._replace(length=length)):
                found.append((position, part, there))
                position += part
        else:
            found.append((position, length, HOLE))
            position += length
    return tuple(found)
