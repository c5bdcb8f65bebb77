"""The block allocation table, read by page ([MS-VHDX] 2.5).

One entry of 64 bits a block; after every chunk of blocks stands the entry of a sector bitmap block,
which only differencing disks use. A table can be half a gigabyte, so only its pages that a question
touches are read.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator

from imagetool.disk.source import Source, read_exactly
from imagetool.disk.vhdx import structs as s
from imagetool.disk.vhdx.layout import Layout
from imagetool.errors import Corrupt

_PAGE = 4096
_PER_PAGE = _PAGE // 8
_PAGES_KEPT = 4096
_OFFSET = ~(s.MIB - 1)


class BlockAllocationTable:
    """Where the blocks of the virtual disk lie in the file."""

    def __init__(self, source: Source, layout: Layout) -> None:
        self._source = source
        self._layout = layout
        self._pages: dict[int, array[int]] = {}
        self.chunk_ratio = (1 << 23) * layout.logical_sector_size // layout.block_size
        self.block_count = -(-layout.disk_size // layout.block_size)
        self.entry_count = self.block_count + (self.block_count - 1) // self.chunk_ratio
        if self.entry_count * 8 > layout.bat_length:
            raise Corrupt(
                f"{source.name}: the block allocation table at offset {layout.bat_offset} has room "
                f"for {layout.bat_length // 8} entries, and the disk needs {self.entry_count}",
                hint="The image is damaged: compare it with its origin.",
            )

    def load(self, blocks: Iterable[int]) -> None:
        """Read the pages that hold the entries of these blocks, in one batch."""
        ratio = self.chunk_ratio
        pages = {(block + block // ratio) // _PER_PAGE for block in blocks} - self._pages.keys()
        if not pages:
            return
        if len(self._pages) + len(pages) > _PAGES_KEPT:
            self._pages.clear()
        wanted = sorted(pages)
        end = self._layout.bat_length
        ranges = [
            (self._layout.bat_offset + page * _PAGE, min(_PAGE, end - page * _PAGE))
            for page in wanted
        ]
        for page, (offset, length), data in zip(
            wanted, ranges, self._source.read_many(ranges), strict=True
        ):
            if len(data) != length:
                read_exactly(self._source, offset, length, "the block allocation table")
            entries = array("Q", data)
            if sys.byteorder == "big":
                entries.byteswap()
            self._pages[page] = entries

    def offset_of(self, block: int) -> int:
        """Where the block lies in the file, in bytes; -1 where its bytes are all zero."""
        page, index = divmod(block + block // self.chunk_ratio, _PER_PAGE)
        if page not in self._pages:
            self.load((block,))
        entry = self._pages[page][index]
        state = entry & 7
        if state != s.FULLY_PRESENT:
            if state in (s.NOT_PRESENT, s.UNDEFINED, s.ZERO, s.UNMAPPED):
                return -1
            raise self._damaged(
                block, f"is in the state {state}, which a disk of its own cannot have"
            )
        offset: int = entry & _OFFSET
        if offset < s.MIB or offset + self._needed(block) > self._source.size:
            raise self._damaged(
                block, f"lies beyond the end of the file or over its header (offset {offset})"
            )
        layout = self._layout
        if offset < layout.bat_offset + layout.bat_length and offset + layout.block_size > (
            layout.bat_offset
        ):
            raise self._damaged(block, f"lies over the block allocation table (offset {offset})")
        return offset

    def place_of_entry(self, block: int) -> int:
        """Where the block's entry lies in the file, in bytes."""
        return self._layout.bat_offset + 8 * (block + block // self.chunk_ratio)

    def forget(self, block: int) -> None:
        """Read the page of the block's entry again when it is needed: a writer changed it."""
        self._pages.pop((block + block // self.chunk_ratio) // _PER_PAGE, None)

    def _needed(self, block: int) -> int:
        """The last block of a disk may be stored only as far as the disk goes."""
        return min(
            self._layout.block_size, self._layout.disk_size - block * self._layout.block_size
        )

    def _damaged(self, block: int, what: str) -> Corrupt:
        return Corrupt(
            f"{self._source.name}: block {block} {what}",
            hint="The image is truncated or damaged: compare it with its origin.",
        )

    def present(self) -> Iterator[int]:
        """The numbers of the blocks that are stored in the file, ascending."""
        for start in range(0, self.block_count, 65536):
            blocks = range(start, min(start + 65536, self.block_count))
            self.load(blocks)
            for block in blocks:
                if self.offset_of(block) >= 0:
                    yield block
