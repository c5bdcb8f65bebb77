"""The blocks of an ext file: an extent tree (ext4), or a block map (ext2, ext3).

Linux kernel documentation, "ext4 Data Structures": "Extent Tree", "Direct/Indirect Block
Addressing".
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from imagetool.contracts import Range
from imagetool.disk.extents import HOLE, Extent, read_extent_data
from imagetool.filesystem.ext import structs as s

if TYPE_CHECKING:
    from imagetool.filesystem.ext.volume import Ext

_MAX_DEPTH = 5
_MAX_EXTENT_BLOCKS = 1 << 16
_MAX_CACHED_MAPS = 1024
_DIRECT_BLOCKS = 12


def file_extents(volume: Ext, root: bytes, name: str) -> Iterator[tuple[int, int, int]]:
    """The extents of a file: (offset in it, length, offset in the volume or HOLE), in bytes."""
    size = volume.block_size
    level: list[bytes] = [root]
    depth = -1
    seen: set[int] = set()
    while level:
        below: list[int] = []
        for node in level:
            magic, count, _, node_depth, _ = s.EXTENT_HEADER.unpack_from(node)
            if magic != s.EXTENT_MAGIC or 12 * (count + 1) > len(node) or node_depth > _MAX_DEPTH:
                raise volume.damaged(f"{name}: a damaged tree of extents")
            if depth not in (-1, node_depth):
                raise volume.damaged(f"{name}: a tree of extents with a wrong depth")
            volume.source.budget.spend(name, count)
            for position in range(12, 12 * (count + 1), 12):
                if node_depth:
                    _, low, high, _ = s.EXTENT_INDEX.unpack_from(node, position)
                    below.append(high << 32 | low)
                    continue
                first, length, high, low = s.EXTENT.unpack_from(node, position)
                written = length <= s.UNWRITTEN
                length = length if written else length - s.UNWRITTEN
                start = high << 32 | low
                if written and (not start or start + length > volume.block_count):
                    raise volume.damaged(f"{name}: an extent lies beyond the volume")
                yield first * size, length * size, start * size if written else HOLE
        if not below:
            return
        if seen & set(below) or len(set(below)) != len(below) or len(seen) > _MAX_EXTENT_BLOCKS:
            raise volume.damaged(f"{name}: its tree of extents leads back to itself")
        seen.update(below)
        volume.source.budget.spend(name, len(below), len(below) * size)
        depth = s.EXTENT_HEADER.unpack_from(level[0])[3] - 1
        level = volume.read_blocks(below)


class BlockMapData:
    """A file with a block map: twelve block numbers in the inode, the others in map blocks."""

    __slots__ = ("_maps", "_root", "_volume", "budget", "name", "size")

    def __init__(self, volume: Ext, root: bytes, size: int, name: str) -> None:
        self._volume = volume
        self.budget = volume.source.budget
        self._root = _block_numbers(root)
        self._maps: dict[int, array[int]] = {}
        self.size = size
        self.name = name

    def _block_number(self, number: int) -> int:
        """The block of the volume for block `number` of the file; 0 is a hole."""
        if number < _DIRECT_BLOCKS:
            return self._root[number]
        number -= _DIRECT_BLOCKS
        per_block = self._volume.block_size // 4
        for levels in (1, 2, 3):
            if number < per_block**levels:
                block = self._root[_DIRECT_BLOCKS - 1 + levels]
                for level in range(levels - 1, -1, -1):
                    if not block:
                        return 0
                    block = self._load_map(block)[number // per_block**level % per_block]
                return block
            number -= per_block**levels
        raise self._volume.damaged(f"{self.name}: it is larger than its map can be")

    def _load_map(self, block: int) -> array[int]:
        found = self._maps.get(block)
        if found is None:
            if len(self._maps) >= _MAX_CACHED_MAPS:
                self._maps.clear()
            found = self._maps[block] = _block_numbers(self._volume.read_blocks([block])[0])
        return found

    def extents(self, offset: int, length: int) -> list[Extent]:
        """As ExtentMap.extents."""
        length = min(length, self.size - offset)
        size = self._volume.block_size
        found: list[Extent] = []
        while offset >= 0 and length > 0:
            number, inside = divmod(offset, size)
            part = min(length, size - inside)
            block = self._block_number(number)
            if block >= self._volume.block_count:
                raise self._volume.damaged(f"{self.name}: block {block} lies beyond the volume")
            volume_offset = block * size + inside if block else HOLE
            last = found[-1] if found else (HOLE - 1, 0)
            if (volume_offset == last[0] == HOLE) or (block and volume_offset == last[0] + last[1]):
                found[-1] = (last[0], last[1] + part)
            else:
                found.append((volume_offset, part))
            offset += part
            length -= part
        return found

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return read_extent_data(self._volume.source, [self.extents(offset, length)])[0]

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many."""
        return read_extent_data(self._volume.source, [self.extents(*item) for item in ranges])


def _block_numbers(block: bytes) -> array[int]:
    import sys

    numbers = array("I", block)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
