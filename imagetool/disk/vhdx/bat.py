"""The block allocation table, read by page ([MS-VHDX] 2.5).

Each block has an entry of 64 bits; after every chunk of blocks follows the entry of a sector bitmap
block, which only differencing disks use. A table can have half a gigabyte, so only the pages that a
read needs are loaded; a small table is read as a whole with the first of them. Every entry that
was loaded is compared with the size of the file when warnings are asked for, for a copy that broke
off ends early.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator

from imagetool.contracts import Range, Source
from imagetool.disk.source import read_exactly
from imagetool.disk.vhdx import structs as s
from imagetool.disk.vhdx.metadata import VhdxMetadata
from imagetool.errors import Corrupt

_PAGE_SIZE = 4096
_ENTRIES_PER_PAGE = _PAGE_SIZE // 8
_MAX_CACHED_PAGES = 4096
_PAGES_OF_A_SMALL_TABLE = 8  # 128 GiB in blocks of 32 MiB
_MAX_CACHED_OFFSETS = 65536
_OFFSET_MASK = ~(s.MIB - 1)
_PAGES_PER_BATCH = 128
_OBJECTS_PER_PAGE = 8  # the walk over its entries takes as long as making so many
_MAYBE_STORED = 4  # a bit of both states of blocks in the file, of none of the others


class BlockAllocationTable:
    """The states and file offsets of the blocks of a virtual disk."""

    def __init__(self, source: Source, metadata: VhdxMetadata) -> None:
        self._source = source
        self._metadata = metadata
        self._pages: dict[int, array[int]] = {}
        self._offsets: dict[int, int] = {}
        self.chunk_ratio = (1 << 23) * metadata.logical_sector_size // metadata.block_size
        self.block_count = -(-metadata.disk_size // metadata.block_size)
        self.entry_count = self.block_count + (self.block_count - 1) // self.chunk_ratio
        if metadata.has_parent:  # the last chunk has its sector bitmap as well
            chunks = -(-self.block_count // self.chunk_ratio)
            self.entry_count = chunks * (self.chunk_ratio + 1)
        if self.entry_count * 8 > metadata.bat_length:
            raise Corrupt(
                f"{source.name}: the block allocation table at offset {metadata.bat_offset} has "
                f"room for {metadata.bat_length // 8} entries, and the disk needs "
                f"{self.entry_count}",
                hint="The image is damaged: compare it with its origin.",
            )

    def load(self, blocks: Iterable[int]) -> None:
        """Read the pages that hold the entries of these blocks, in one batch."""
        ratio = self.chunk_ratio
        self._load_pages({(block + block // ratio) // _ENTRIES_PER_PAGE for block in blocks})

    def _load_pages(self, wanted_pages: set[int]) -> None:
        pages = wanted_pages - self._pages.keys()
        if not pages:
            return
        page_count = -(-self.entry_count // _ENTRIES_PER_PAGE)
        if page_count <= _PAGES_OF_A_SMALL_TABLE:
            pages = set(range(page_count))
        if len(self._pages) + len(pages) > _MAX_CACHED_PAGES:
            self._pages.clear()
        wanted = sorted(pages)
        metadata = self._metadata
        end = metadata.bat_length
        ranges = [
            (
                metadata.bat_offset + page * _PAGE_SIZE,
                min(_PAGE_SIZE, end - page * _PAGE_SIZE),
            )
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

    @property
    def truncation(self) -> str:
        """A sentence on an entry that leads beyond the end of the file; empty if none was seen."""
        most = self._source.size - self._metadata.block_size
        found = (
            self._beyond_end(page, entries)
            for page, entries in self._pages.items()
            if max(entries) > most
        )
        return next(filter(None, found), "")

    def _beyond_end(self, page: int, entries: array[int]) -> str:
        """The sentence on the first entry of a page that leads beyond the end of the file."""
        first = page * _ENTRIES_PER_PAGE
        for index in range(first, min(first + len(entries), self.entry_count)):
            chunk, inside = divmod(index, self.chunk_ratio + 1)
            block = chunk * self.chunk_ratio + inside
            is_bitmap = inside == self.chunk_ratio
            entry = entries[index - first]
            if entry & 7 not in (s.FULLY_PRESENT, s.PARTIALLY_PRESENT) or (
                is_bitmap and not self._metadata.has_parent
            ):
                continue
            length = self._metadata.block_size
            if self._metadata.leave_blocks_allocated:  # some fixed disks end with their last byte
                length = self._required_length(block)
            end = (entry & _OFFSET_MASK) + (s.MIB if is_bitmap else length)
            if end > self._source.size:
                what = f"the sector bitmap of chunk {chunk}" if is_bitmap else f"block {block}"
                return (
                    f"{self._source.name} is truncated: {what} ends at {end}, and the file has "
                    f"{self._source.size} bytes"
                )
        return ""

    def _entry(self, index: int) -> int:
        page, index_in_page = divmod(index, _ENTRIES_PER_PAGE)
        if page not in self._pages:
            self._load_pages({page})
        return self._pages[page][index_in_page]

    def state_of(self, block: int) -> int:
        """The state of the block's entry (2.5.1.1)."""
        return self._entry(block + block // self.chunk_ratio) & 7

    def offset_of(self, block: int) -> int:
        """The offset of the block in the file, in bytes; -1 if the file does not store it."""
        offset = self._offsets.get(block)
        if offset is None:
            if len(self._offsets) >= _MAX_CACHED_OFFSETS:
                self._offsets.clear()
            offset = self._offsets[block] = self._stored_offset(block)
        return offset

    def _stored_offset(self, block: int) -> int:
        entry = self._entry(block + block // self.chunk_ratio)
        state = entry & 7
        if state != s.FULLY_PRESENT and not (
            state == s.PARTIALLY_PRESENT and self._metadata.has_parent
        ):
            if state in (s.NOT_PRESENT, s.UNDEFINED, s.ZERO, s.UNMAPPED):
                return -1
            raise self._damaged(
                f"block {block}", f"is in the state {state}, which a disk of its own cannot have"
            )
        return self._check_range(
            f"block {block}", entry & _OFFSET_MASK, self._required_length(block)
        )

    def bitmap_of(self, block: int) -> Range:
        """The range of the block's part of its sector bitmap in the file (2.5.1.2).

        Raises Corrupt if a partially present block has none.
        """
        inside = block % self.chunk_ratio
        entry = self._entry(self._bitmap_index(block))
        structure = f"the sector bitmap of block {block}"
        if entry & 7 != s.FULLY_PRESENT:
            raise self._damaged(structure, "is not present")
        length = self._metadata.block_size // self._metadata.logical_sector_size // 8
        return self._check_range(structure, entry & _OFFSET_MASK, s.MIB) + inside * length, length

    def _check_range(self, structure: str, offset: int, length: int) -> int:
        metadata = self._metadata
        if offset < s.MIB or offset + length > self._source.size:
            raise self._damaged(
                structure, f"lies beyond the end of the file or over its header (offset {offset})"
            )
        if (
            metadata.bat_offset - metadata.block_size
            < offset
            < metadata.bat_offset + metadata.bat_length
        ):
            raise self._damaged(
                structure, f"lies over the block allocation table (offset {offset})"
            )
        return offset

    def entry_offset_of(self, block: int) -> int:
        """The offset of the block's entry in the file, in bytes."""
        return self._metadata.bat_offset + 8 * (block + block // self.chunk_ratio)

    def bitmap_entry_offset_of(self, block: int) -> int:
        """The offset in the file of the entry of the block's sector bitmap, in bytes."""
        return self._metadata.bat_offset + 8 * self._bitmap_index(block)

    def _bitmap_index(self, block: int) -> int:
        return block // self.chunk_ratio * (self.chunk_ratio + 1) + self.chunk_ratio

    def invalidate(self, block: int) -> None:
        """Drop the cached entries of the block, which a writer has changed in the file."""
        self._offsets.pop(block, None)
        self._pages.pop((block + block // self.chunk_ratio) // _ENTRIES_PER_PAGE, None)
        self._pages.pop(self._bitmap_index(block) // _ENTRIES_PER_PAGE, None)

    def _required_length(self, block: int) -> int:
        """The bytes of the block that the file must hold: the last block may be shorter."""
        return min(
            self._metadata.block_size, self._metadata.disk_size - block * self._metadata.block_size
        )

    def _damaged(self, structure: str, problem: str) -> Corrupt:
        return Corrupt(
            f"{self._source.name}: {structure} {problem}",
            hint="The image is truncated or damaged: compare it with its origin.",
        )

    def present_blocks(self) -> Iterator[tuple[int, int]]:
        """The blocks that are stored in the file, as ascending runs: first, and last + 1."""
        page_count = -(-self.entry_count // _ENTRIES_PER_PAGE)
        for start in range(0, page_count, _PAGES_PER_BATCH):
            pages = range(start, min(start + _PAGES_PER_BATCH, page_count))
            self._load_pages(set(pages))
            for page in pages:
                yield from self._present_in(page)

    def _present_in(self, page: int) -> Iterator[tuple[int, int]]:
        if page not in self._pages:  # another thread emptied the cache
            self._load_pages({page})
        entries = self._pages[page]
        if not any(entries):
            return
        self._source.budget.spend(self._source.name, _OBJECTS_PER_PAGE)
        index = page * _ENTRIES_PER_PAGE
        end = min(index + len(entries), self.entry_count)
        while index < end:  # up to the next entry of a sector bitmap
            chunk, inside = divmod(index, self.chunk_ratio + 1)
            stop = min(end, index + self.chunk_ratio - inside)
            part = entries[index - page * _ENTRIES_PER_PAGE : stop - page * _ENTRIES_PER_PAGE]
            yield from self._present_among(part, chunk * self.chunk_ratio + inside)
            index = stop + 1

    def _present_among(self, entries: array[int], first: int) -> Iterator[tuple[int, int]]:
        """The runs of stored blocks in entries that begin with that of block `first`."""
        metadata, start = self._metadata, -1
        lowest = metadata.bat_offset + metadata.bat_length  # behind it an offset needs no more
        highest = self._source.size - metadata.block_size + s.MIB - 1
        for block, entry in enumerate(entries, first):
            if entry & _MAYBE_STORED and (
                (entry & 7 == s.FULLY_PRESENT and lowest <= entry <= highest)
                or self._stored_offset(block) >= 0
            ):
                if start < 0:
                    start = block
            elif start >= 0:
                yield start, block
                start = -1
        if start >= 0:
            yield start, first + len(entries)
