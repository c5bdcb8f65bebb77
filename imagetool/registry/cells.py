"""Hive cells, read by page and in batches.

A hive is a base block of 4,096 bytes and hive bins made of cells: a signed size (negative: in
use) and data (Suhanov, "Hive bins"). A cell is identified by the offset of its size field, counted
from the first bin. Pages are read once and cached, up to a limit; several cells are read in one
batch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from imagetool.contracts import Source
from imagetool.errors import Corrupt
from imagetool.registry.structs import BASE_BLOCK_SIZE

NO_CELL = 0xFFFFFFFF

PAGE_SIZE = 4096
_MAX_CACHED_PAGES = 4096
_MAX_CELL_SIZE = 1 << 20
"""Far above the sizes that Windows writes (a list of subkeys has at most 1,012 entries, a segment
of a value 16,344 bytes): a larger size is damage."""

_SIZE = struct.Struct("<i")


class Cells:
    """The cells of one hive.

    `end` is the offset behind the last bin, counted as cells are. Values in segments ("big data")
    exist from version 1.4 on. Raises Corrupt for a cell that
    lies outside of the bins, is not in use, or does not fit in them; BudgetSpent.
    """

    __slots__ = ("_pages", "_source", "budget", "end", "has_big_data", "name")

    def __init__(self, source: Source, end: int, has_big_data: bool = True) -> None:
        self._source = source
        self.budget = source.budget
        self._pages: dict[int, bytes] = {}
        self.end = end
        self.has_big_data = has_big_data
        self.name = source.name

    def damaged(self, offset: int, what: str) -> Corrupt:
        """The error for an invalid cell; `what` describes the problem."""
        return Corrupt(
            f"{self.name}: hive cell at offset {BASE_BLOCK_SIZE + offset}: {what}",
            hint="The hive is damaged: restore it from a backup, or start the guest to let "
            "Windows repair it.",
        )

    def cell(self, offset: int) -> bytes:
        """Read the data of one cell, without its size field."""
        page, start = divmod(offset, PAGE_SIZE)
        data = self._pages.get(page)
        # The common case, a cell inside a page that has been read, is answered at once.
        if data is not None and start <= len(data) - 4 and not offset & 7:
            size = -_SIZE.unpack_from(data, start)[0]
            if 8 <= size <= len(data) - start:
                return data[start + 4 : start + size]
        return self.cells((offset,))[0]

    def cells(self, offsets: Sequence[int]) -> list[bytes]:
        """Read the data of several cells; pages that are not cached take at most two batches."""
        for offset in offsets:
            if offset & 7 or not 0 <= offset <= self.end - 8:
                raise self.damaged(offset, "no cell can lie here")
        self._load_pages({offset // PAGE_SIZE for offset in offsets})
        sizes = [self._read_size(offset) for offset in offsets]
        if sum(sizes) > PAGE_SIZE:  # less costs nothing of the budget
            self.budget.spend(self.name, len(offsets), sum(sizes))
        pages: set[int] = set()
        for offset, size in zip(offsets, sizes, strict=True):
            pages.update(range(offset // PAGE_SIZE, (offset + size - 1) // PAGE_SIZE + 1))
        self._load_pages(pages)
        return [
            self._read_bytes(offset + 4, size - 4)
            for offset, size in zip(offsets, sizes, strict=True)
        ]

    def _read_size(self, offset: int) -> int:
        size = -int.from_bytes(self._read_bytes(offset, 4), "little", signed=True)
        if size < 0:
            raise self.damaged(offset, "it is referred to, yet marked as unused")
        if size < 8 or size > _MAX_CELL_SIZE or offset + size > self.end:
            raise self.damaged(offset, f"its size of {size} bytes cannot be")
        return size

    def _load_pages(self, pages: Iterable[int]) -> None:
        wanted = sorted(page for page in pages if page not in self._pages)
        if not wanted:
            return
        if len(self._pages) + len(wanted) > _MAX_CACHED_PAGES:
            self._pages.clear()
        ranges = [
            (BASE_BLOCK_SIZE + page * PAGE_SIZE, min(PAGE_SIZE, self.end - page * PAGE_SIZE))
            for page in wanted
        ]
        for page, part, data in zip(wanted, ranges, self._source.read_many(ranges), strict=True):
            if len(data) != part[1]:
                raise self.damaged(page * PAGE_SIZE, "the hive ends before it")
            self._pages[page] = data

    def _read_bytes(self, offset: int, length: int) -> bytes:
        page, start = divmod(offset, PAGE_SIZE)
        data = self._page(page)[start : start + length]
        while len(data) < length:
            page += 1
            data += self._page(page)[: length - len(data)]
        return data

    def _page(self, page: int) -> bytes:
        if page not in self._pages:  # a large batch emptied the cache
            self._load_pages((page,))
        return self._pages[page]
