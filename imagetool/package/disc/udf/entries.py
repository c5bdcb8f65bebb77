"""File entries of UDF: the kind of a file, and where its bytes lie.

Sources: ECMA-167 4/14.6 (ICB tags), 4/14.9 and 4/14.17 (file entries), 4/12.1 (allocation).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from imagetool.disk.extents import HOLE
from imagetool.errors import Unsupported
from imagetool.package.disc.side import SECTOR, Extents, damaged, join_extents
from imagetool.package.disc.udf import tags
from imagetool.package.disc.udf.tags import Address
from imagetool.package.disc.udf.volume import UdfVolume

DIRECTORY, REGULAR, LINK = 4, 5, 12
"""Types of files (ECMA-167, 4/14.6.6)."""
_STRATEGY = 4
_SHORT, _LONG, _EMBEDDED = 0, 1, 3
_RECORDED, _MORE = 0, 3


class FileEntry(NamedTuple):
    """A file entry."""

    offset: int
    """The offset of the entry on the disc, in bytes."""
    kind: int
    size: int
    extents: Extents


def read_entry(volume: UdfVolume, address: Address) -> FileEntry:
    """Read the file entry at an address. Raises Corrupt, Unsupported, BudgetSpent."""
    source = volume.source
    offset = volume.locate(address)
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
    return FileEntry(offset, kind, size, join_extents(extents))


def _extents(
    volume: UdfVolume, listed: bytes, partition: int, long: bool, size: int
) -> Iterator[tuple[int, int]]:
    """Go through the allocation descriptors of a file: length, and offset on the disc or HOLE."""
    disc, width, position = volume.source.name, 16 if long else 8, 0
    for offset in range(0, len(listed) - width + 1, width):
        if position == size:
            return
        address = (
            Address.parse(listed, offset)
            if long
            else Address.parse_short(listed, offset, partition)
        )
        volume.source.budget.spend(disc, 1)
        if address.kind == _MORE:
            raise Unsupported(f"{disc}: UDF with more extents of a file than its entry holds")
        length = min(address.length, size - position)
        yield length, volume.locate(address) if address.kind == _RECORDED else HOLE
        position += length
    if position < size:
        raise damaged(disc, f"a file of {size} bytes has extents for {position}")
