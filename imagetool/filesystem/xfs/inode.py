"""Inodes of XFS and the extents of their data ("Inodes", "Data Extents")."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from imagetool.disk.extents import HOLE
from imagetool.errors import Unsupported
from imagetool.filesystem.inode_volume import FileType, windows_attributes
from imagetool.filesystem.xfs import structs as s

if TYPE_CHECKING:
    from imagetool.filesystem.xfs.volume import Xfs

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FILE_TYPES = {
    s.IS_DIRECTORY: FileType.DIRECTORY,
    s.IS_FILE: FileType.FILE,
    s.IS_LINK: FileType.LINK,
}
_MAX_BTREE_LEVELS = 9
_MAX_BTREE_BLOCKS = 1 << 16


@dataclass(frozen=True, slots=True)
class XfsInode:
    """An inode: its number and its bytes."""

    number: int
    raw: bytes

    @property
    def file_type(self) -> FileType:
        """The type, by the mode."""
        mode = int.from_bytes(self.raw[2:4], "big")
        return _FILE_TYPES.get(mode & s.FILE_TYPE_MASK, FileType.OTHER)

    @property
    def version(self) -> int:
        """1 and 2 in volumes of version 4, 3 in those of version 5."""
        return self.raw[4]

    @property
    def format(self) -> int:
        """The format of the data fork: DEVICE, LOCAL, EXTENTS or BTREE."""
        return self.raw[5]

    @property
    def size(self) -> int:
        """The size of its data in bytes."""
        return int.from_bytes(self.raw[56:64], "big")

    @property
    def flags2(self) -> int:
        """Flags that only version 3 has."""
        return int.from_bytes(self.raw[120:128], "big") if self.version >= 3 else 0

    @property
    def is_realtime(self) -> bool:
        """True where the data is on the realtime device."""
        return bool(int.from_bytes(self.raw[90:92], "big") & s.IS_REALTIME)

    @property
    def modified(self) -> datetime:
        """The time of the last change of the content; big timestamps are ns since 1901."""
        if self.flags2 & s.BIG_TIME:
            seconds = int.from_bytes(self.raw[40:48], "big") // 10**9 - (1 << 31)
        else:
            seconds = int.from_bytes(self.raw[40:44], "big", signed=True)
        return _EPOCH + timedelta(seconds=seconds)

    @property
    def attributes(self) -> int:
        """FILE_ATTRIBUTE_…"""
        return windows_attributes(self.file_type)

    @property
    def extent_count(self) -> int:
        """The number of extents that the inode records."""
        large = self.flags2 & s.LARGE_COUNTERS
        return int.from_bytes(self.raw[24:32] if large else self.raw[76:80], "big")

    def data_fork(self) -> bytes:
        """The data fork: the bytes behind the core, up to the attribute fork."""
        start = s.INODE_CORE_5 if self.version >= 3 else s.INODE_CORE_4
        fork = self.raw[82] * 8
        return self.raw[start : start + fork] if fork else self.raw[start:]


def file_extents(volume: Xfs, inode: XfsInode, name: str) -> Iterator[tuple[int, int, int]]:
    """The extents of the data: (offset in it, length, offset in the volume or HOLE), in bytes.

    Raises Unsupported for data on the realtime device, Corrupt for a damaged fork.
    """
    fork = inode.data_fork()
    if inode.is_realtime:
        raise Unsupported(f"{name}: its data lies on a realtime device, which is not read")
    if inode.format == s.EXTENTS:
        if inode.extent_count * s.EXTENT.size > len(fork):
            raise volume.damaged(f"{name}: {inode.extent_count} extents do not fit its inode")
        yield from _parse_extents(volume, fork, 0, inode.extent_count, name)
    elif inode.format == s.BTREE:
        yield from _btree_extents(volume, fork, name)
    else:
        raise volume.damaged(f"{name}: its data is in the format {inode.format}")


def _parse_extents(
    volume: Xfs, block: bytes, table_offset: int, count: int, name: str
) -> Iterator[tuple[int, int, int]]:
    size = volume.block_size
    volume.source.budget.spend(name, count)
    for offset in range(table_offset, table_offset + count * s.EXTENT.size, s.EXTENT.size):
        high, low = s.EXTENT.unpack_from(block, offset)
        first = (high & ~(1 << 63)) >> 9
        length = low & 0x1FFFFF
        start = volume.block_offset(((high & 0x1FF) << 43) | low >> 21, length, name)
        yield first * size, length * size, HOLE if high >> 63 else start


def _btree_extents(volume: Xfs, fork: bytes, name: str) -> Iterator[tuple[int, int, int]]:
    """The extents in the leaves of a B+tree, whose root is the data fork."""
    level, count = struct.unpack_from(">HH", fork)
    room = (len(fork) - 4) // 16
    if not 0 < level <= _MAX_BTREE_LEVELS or count > room:
        raise volume.damaged(f"{name}: a damaged tree of extents")
    below = struct.unpack_from(f">{count}Q", fork, 4 + 8 * room)
    seen: set[int] = set()
    while below:
        if seen & set(below) or len(set(below)) != len(below) or len(seen) > _MAX_BTREE_BLOCKS:
            raise volume.damaged(f"{name}: its tree of extents leads back to itself")
        seen.update(below)
        volume.source.budget.spend(name, len(below), len(below) * volume.block_size)
        level -= 1
        blocks = volume.read_blocks(below, name)
        below = ()
        for block in blocks:
            header = s.NODE_MAGIC.get(block[:4])
            node_level, count = struct.unpack_from(">HH", block, 4)
            if header is None or node_level != level or count > (len(block) - header) // 16:
                raise volume.damaged(f"{name}: a damaged tree of extents")
            if level:
                room = (len(block) - header) // 16
                below += struct.unpack_from(f">{count}Q", block, header + 8 * room)
            else:
                yield from _parse_extents(volume, block, header, count, name)
