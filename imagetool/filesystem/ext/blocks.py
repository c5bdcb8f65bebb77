"""Where the blocks of an ext file lie: a tree of extents (ext4), or a map of blocks (ext2, ext3).

Linux kernel documentation, "ext4 Data Structures": "Extent Tree", "Direct/Indirect Block
Addressing".
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from imagetool.disk.extents import HOLE, Extent, read_extent_data
from imagetool.disk.source import Range
from imagetool.filesystem.ext import structs as s

if TYPE_CHECKING:
    from imagetool.filesystem.ext.volume import Ext

_DEEPEST = 5
_MOST_NODES = 1 << 16
_MAPS_KEPT = 1024
_DIRECT = 12


def read_extents(volume: Ext, root: bytes, name: str) -> Iterator[tuple[int, int, int]]:
    """The stretches of a file: (offset in it, length, offset in the volume), in bytes."""
    size = volume.block_size
    level: list[bytes] = [root]
    depth = -1
    seen: set[int] = set()
    while level:
        below: list[int] = []
        for node in level:
            magic, count, _, here, _ = s.EXTENT_HEADER.unpack_from(node)
            if magic != s.EXTENT_MAGIC or 12 * (count + 1) > len(node) or here > _DEEPEST:
                raise volume.damaged(f"{name}: a damaged tree of extents")
            if depth not in (-1, here):
                raise volume.damaged(f"{name}: a tree of extents with a wrong depth")
            for place in range(12, 12 * (count + 1), 12):
                if here:
                    _, low, high, _ = s.EXTENT_INDEX.unpack_from(node, place)
                    below.append(high << 32 | low)
                    continue
                first, length, high, low = s.EXTENT.unpack_from(node, place)
                written = length <= s.UNWRITTEN
                length = length if written else length - s.UNWRITTEN
                start = high << 32 | low
                if written and (not start or start + length > volume.block_count):
                    raise volume.damaged(f"{name}: an extent lies beyond the volume")
                yield first * size, length * size, start * size if written else HOLE
        if not below:
            return
        if seen & set(below) or len(set(below)) != len(below) or len(seen) > _MOST_NODES:
            raise volume.damaged(f"{name}: its tree of extents leads back to itself")
        seen.update(below)
        depth = s.EXTENT_HEADER.unpack_from(level[0])[3] - 1
        level = volume.blocks(below)


class MappedBlocks:
    """A file whose blocks are listed one by one: twelve in the inode, the others in map blocks."""

    __slots__ = ("_maps", "_root", "_volume", "name", "size")

    def __init__(self, volume: Ext, root: bytes, size: int, name: str) -> None:
        self._volume = volume
        self._root = _numbers(root)
        self._maps: dict[int, array[int]] = {}
        self.size = size
        self.name = name

    def _block(self, number: int) -> int:
        """The block of the volume that holds block `number` of the file; 0 is a hole."""
        if number < _DIRECT:
            return self._root[number]
        number -= _DIRECT
        per_block = self._volume.block_size // 4
        for levels in (1, 2, 3):
            if number < per_block**levels:
                here = self._root[_DIRECT - 1 + levels]
                for level in range(levels - 1, -1, -1):
                    if not here:
                        return 0
                    here = self._map(here)[number // per_block**level % per_block]
                return here
            number -= per_block**levels
        raise self._volume.damaged(f"{self.name}: it is larger than its map can be")

    def _map(self, block: int) -> array[int]:
        found = self._maps.get(block)
        if found is None:
            if len(self._maps) >= _MAPS_KEPT:
                self._maps.clear()
            found = self._maps[block] = _numbers(self._volume.blocks([block])[0])
        return found

    def _pieces(self, offset: int, length: int) -> list[Extent]:
        length = min(length, self.size - offset)
        size = self._volume.block_size
        found: list[Extent] = []
        while offset >= 0 and length > 0:
            number, inside = divmod(offset, size)
            part = min(length, size - inside)
            block = self._block(number)
            if block >= self._volume.block_count:
                raise self._volume.damaged(f"{self.name}: block {block} lies beyond the volume")
            place = block * size + inside if block else HOLE
            last = found[-1] if found else (HOLE - 1, 0)
            if (place == last[0] == HOLE) or (block and place == last[0] + last[1]):
                found[-1] = (last[0], last[1] + part)
            else:
                found.append((place, part))
            offset += part
            length -= part
        return found

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return read_extent_data(self._volume.source, [self._pieces(offset, length)])[0]

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many."""
        return read_extent_data(self._volume.source, [self._pieces(*item) for item in ranges])


def _numbers(block: bytes) -> array[int]:
    import sys

    numbers = array("I", block)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
