"""The block allocation table, read by page ([MS-VHDX] 2.5).

One entry of 64 bits a block; after every chunk of blocks stands the entry of a sector bitmap block,
which only differencing disks use. A table can be half a gigabyte, so only its pages that a question
touches are read.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator

from imagetool.disk.source import Range, Source, read_exactly
from imagetool.disk.vhdx import structs as s
from imagetool.disk.vhdx.layout import Layout
from imagetool.errors import Corrupt

_PAGE = 4096
_PER_PAGE = _PAGE // 8
_PAGES_KEPT = 4096
_PLACES_KEPT = 65536
_OFFSET = ~(s.MIB - 1)


class BlockAllocationTable:
    """Where the blocks of the virtual disk lie in the file."""

    def __init__(self, source: Source, layout: Layout) -> None:
        self._source = source
        self._layout = layout
        self._pages: dict[int, array[int]] = {}
        self._places: dict[int, int] = {}
        self.chunk_ratio = (1 << 23) * layout.logical_sector_size // layout.block_size
        self.block_count = -(-layout.disk_size // layout.block_size)
        self.entry_count = self.block_count + (self.block_count - 1) // self.chunk_ratio
        if layout.has_parent:  # the last chunk has its sector bitmap as well
            chunks = -(-self.block_count // self.chunk_ratio)
            self.entry_count = chunks * (self.chunk_ratio + 1)
        if self.entry_count * 8 > layout.bat_length:
            raise Corrupt(
                f"{source.name}: the block allocation table at offset {layout.bat_offset} has room "
                f"for {layout.bat_length // 8} entries, and the disk needs {self.entry_count}",
                hint="The image is damaged: compare it with its origin.",
            )

    def load(self, blocks: Iterable[int]) -> None:
        """Read the pages that hold the entries of these blocks, in one batch."""
        ratio = self.chunk_ratio
        self._load_pages({(block + block // ratio) // _PER_PAGE for block in blocks})

    def _load_pages(self, wanted_pages: set[int]) -> None:
        pages = wanted_pages - self._pages.keys()
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

    def _entry(self, index: int) -> int:
        page, place = divmod(index, _PER_PAGE)
        if page not in self._pages:
            self._load_pages({page})
        return self._pages[page][place]

    def state_of(self, block: int) -> int:
        """The state of the block's entry (2.5.1.1)."""
        return self._entry(block + block // self.chunk_ratio) & 7

    def offset_of(self, block: int) -> int:
        """Where the block lies in the file, in bytes; -1 where the file does not store it."""
        place = self._places.get(block)
        if place is None:
            if len(self._places) >= _PLACES_KEPT:
                self._places.clear()
            place = self._places[block] = self._place_of(block)
        return place

    def _place_of(self, block: int) -> int:
        entry = self._entry(block + block // self.chunk_ratio)
        state = entry & 7
        if state != s.FULLY_PRESENT and not (
            state == s.PARTIALLY_PRESENT and self._layout.has_parent
        ):
            if state in (s.NOT_PRESENT, s.UNDEFINED, s.ZERO, s.UNMAPPED):
                return -1
            raise self._damaged(
                f"block {block}", f"is in the state {state}, which a disk of its own cannot have"
            )
        return self._checked(f"block {block}", entry & _OFFSET, self._needed(block))

    def bitmap_of(self, block: int) -> Range:
        """Where the block's part of its sector bitmap lies in the file (2.5.1.2).

        Raises Corrupt where a partially present block has none.
        """
        chunk, inside = divmod(block, self.chunk_ratio)
        entry = self._entry(chunk * (self.chunk_ratio + 1) + self.chunk_ratio)
        what = f"the sector bitmap of block {block}"
        if entry & 7 != s.FULLY_PRESENT:
            raise self._damaged(what, "is not present")
        length = self._layout.block_size // self._layout.logical_sector_size // 8
        return self._checked(what, entry & _OFFSET, s.MIB) + inside * length, length

    def _checked(self, what: str, offset: int, length: int) -> int:
        layout = self._layout
        if offset < s.MIB or offset + length > self._source.size:
            raise self._damaged(
                what, f"lies beyond the end of the file or over its header (offset {offset})"
            )
        if layout.bat_offset - layout.block_size < offset < layout.bat_offset + layout.bat_length:
            raise self._damaged(what, f"lies over the block allocation table (offset {offset})")
        return offset

    def place_of_entry(self, block: int) -> int:
        """Where the block's entry lies in the file, in bytes."""
        return self._layout.bat_offset + 8 * (block + block // self.chunk_ratio)

    def forget(self, block: int) -> None:
        """Read the page of the block's entry again when it is needed: a writer changed it."""
        self._places.pop(block, None)
        self._pages.pop((block + block // self.chunk_ratio) // _PER_PAGE, None)

    def _needed(self, block: int) -> int:
        """The last block of a disk may be stored only as far as the disk goes."""
        return min(
            self._layout.block_size, self._layout.disk_size - block * self._layout.block_size
        )

    def _damaged(self, who: str, what: str) -> Corrupt:
        return Corrupt(
            f"{self._source.name}: {who} {what}",
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
