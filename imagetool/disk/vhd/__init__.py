"""VHD disks, fixed, dynamic and differencing (the specification of 2006).

The footer at the end is used, or its copy at the start if that is damaged; a wrong checksum alone
is a warning, for other tools write them. A file that does not end with a footer is refused: it was
cut off. The size of the disk is the current size in the footer, except for disks made by Virtual
PC: their geometry gives it.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from typing import Any
from uuid import UUID

from imagetool.contracts import Range, Source
from imagetool.disk.declarations import ConstructError
from imagetool.disk.files import PARENTS_OPTION
from imagetool.disk.parents import ParentLocator
from imagetool.disk.source import file_size_warnings, read_exactly
from imagetool.disk.vhd import structs as s
from imagetool.errors import Corrupt, Unsupported

_DAMAGED = "The image is damaged or truncated: compare it with its origin."
_MAX_DISK_SIZE = 2040 << 30
_MAX_CACHED_BITMAPS = 1024
_ENTRIES_PER_PAGE = 1024
_MAX_CACHED_PAGES = 4096
_PAGES_PER_BATCH = 64
_OBJECTS_PER_PAGE = 8  # the walk over its entries takes as long as making so many
_EMPTY_PAGE = array("I", [s.NO_BLOCK]) * _ENTRIES_PER_PAGE
_LOCATOR_ENCODINGS = {b"W2ru": "utf-16-le", b"W2ku": "utf-16-le"}
_ZEROS, _FILE, _PARENT = 0, 1, 2

FindParent = Callable[[ParentLocator], "Vhd"]


def find_footer(source: Source) -> bytes:
    """Return the bytes of the footer, from the end or the start; empty if there is none."""
    end = _read_end(source)
    candidates = [end] if end else []
    head = source.read_at(0, s.FOOTER_SIZE)
    if head.startswith(b"conectix"):
        candidates.append(head)
    sound = [footer for footer in candidates if _checksum_fits(footer, 64)]
    return (sound or candidates or [b""])[0]


def _read_end(source: Source) -> bytes:
    """The footer at the end, whatever its checksum; empty if there is none."""
    tail = source.read_at(max(0, source.size - s.FOOTER_SIZE), s.FOOTER_SIZE)
    ends = (tail, tail[1:] + b"\0")  # footers of 511 bytes exist
    return next((footer for footer in ends if footer.startswith(b"conectix")), b"")


def _checksum_fits(block: bytes, offset: int) -> bool:
    """True if the one's complement of the bytes' sum is stored at `offset`."""
    total = sum(block) - sum(block[offset : offset + 4])
    return (~total & 0xFFFFFFFF) == int.from_bytes(block[offset : offset + 4], "big")


class Vhd:
    """The virtual disk in a VHD file: a source of its sectors, and the metadata of the file."""

    format = "VHD"
    sector_size = s.SECTOR

    def __init__(self, source: Source, find_parent: FindParent | None = None) -> None:
        self.name = source.name
        self.budget = source.budget
        self._file = source
        raw = find_footer(source)
        try:
            self.footer = s.Footer.parse(raw)
        except ConstructError:
            raise Corrupt(f"{source.name}: the VHD footer is cut off", hint=_DAMAGED) from None
        end = _read_end(source)
        if not end:
            raise Corrupt(
                f"{source.name}: the VHD footer at the end of the file is missing: it was cut off",
                hint="Copy the image again from its origin, and compare the sizes.",
            )
        self._warnings = file_size_warnings(source)
        if not _checksum_fits(raw, 64):
            self._warnings += (f"{source.name}: the footer's checksum is wrong",)
        elif raw != end:
            self._warnings += (
                f"{source.name}: the footer at the end is damaged; its copy at the start is used",
            )
        self._truncation = ""
        self.size = _disk_size(self.footer)
        if not 0 < self.size <= _MAX_DISK_SIZE:
            raise Corrupt(f"{source.name}: a disk of {self.size} bytes", hint=_DAMAGED)
        kinds = {s.FIXED: "fixed", s.DYNAMIC: "dynamic", s.DIFFERENCING: "differencing"}
        kind = kinds.get(self.footer.disk_type)
        if kind is None:
            raise Unsupported(f"{source.name}: VHD disks of type {self.footer.disk_type}")
        self.kind = kind
        self.parent: Vhd | None = None
        self._pages: dict[int, array[int]] = {}
        self._bitmaps: dict[int, bytes] = {}
        self.block_size = 0
        if kind == "fixed":
            if self.size + s.FOOTER_SIZE - 1 > source.size:
                raise Corrupt(
                    f"{source.name}: a fixed disk of {self.size} bytes in a file of {source.size}",
                    hint=_DAMAGED,
                )
            return
        self._read_header()
        if kind == "differencing":
            self.parent = self._open_parent(find_parent)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the file and its parents; of a truncated table as far as it was read."""
        found = (*self._warnings, self._truncation) if self._truncation else self._warnings
        return found if self.parent is None else found + self.parent.warnings

    def _read_header(self) -> None:
        where = self.footer.data_offset
        raw = read_exactly(self._file, where, s.HEADER_SIZE, "the header of a dynamic disk")
        try:
            header = self.header = s.Header.parse(raw)
            self._locators = tuple(s.Locator.parse_all(raw, s.Header.size, s.LOCATOR_COUNT))
        except ConstructError:
            raise Corrupt(
                f"{self.name}: no header of a dynamic disk at offset {where}", hint=_DAMAGED
            ) from None
        if not _checksum_fits(raw, 36):
            self._warnings += (f"{self.name}: the dynamic header's checksum is wrong",)
        size = self.block_size = header.block_size
        if size & (size - 1) or not 4096 <= size <= 256 << 20:
            raise Corrupt(f"{self.name}: a block size of {size} bytes", hint=_DAMAGED)
        self._blocks = -(-self.size // size)
        self._bitmap_size = -(-(size // s.SECTOR // 8) // s.SECTOR) * s.SECTOR
        if header.max_entries < self._blocks:
            raise Corrupt(
                f"{self.name}: a block allocation table of {header.max_entries} entries, and the "
                f"disk needs {self._blocks}",
                hint=_DAMAGED,
            )

    def _open_parent(self, find_parent: FindParent | None) -> Vhd:
        locator = self._parent_locator()
        if find_parent is None:
            raise Unsupported(
                f"{self.name}: this is a differencing disk, and there is nowhere to look for its "
                f"parent ({', '.join(locator.paths)})",
                hint="Open it by its path, so that its own directory can be looked into.",
            )
        parent = find_parent(locator)
        if parent.footer.unique_id != self.header.parent_id:
            raise Corrupt(
                f"{self.name}: {parent.name} is not its parent (its identifier is "
                f"{UUID(bytes=parent.footer.unique_id)})",
                hint=f"Put the parent that it was made of beside it; {PARENTS_OPTION}.",
            )
        return parent

    def _parent_locator(self) -> ParentLocator:
        """Read the parent's names and identifier from the header and the locators."""
        paths = [self.header.parent_name.decode("utf-16-be", "replace").split("\0")[0]]
        for item in self._locators:
            encoding = _LOCATOR_ENCODINGS.get(item.platform)
            if encoding is not None and 0 < item.length <= 4096:
                raw = self._file.read_at(item.offset, item.length)
                paths.insert(0, raw.decode(encoding, "replace").split("\0")[0])
        return ParentLocator.from_paths(self.name, paths, [self.header.parent_id])

    @property
    def identifiers(self) -> dict[str, str]:
        """The unique id and the time stamp (seconds since 2000) of the footer."""
        return {
            "UniqueId": str(UUID(bytes=self.footer.unique_id)),
            "TimeStamp": str(self.footer.time_stamp),
            "Checksum": f"{self.footer.checksum:08x}",
        }

    @property
    def chain(self) -> tuple[str, ...]:
        """The names of the parents, the nearest first."""
        return () if self.parent is None else (self.parent.name, *self.parent.chain)

    def close(self) -> None:
        """Close the files of the parents; the caller closes the disk's own."""
        if self.parent is not None:
            self.parent.close()
            close = getattr(self.parent._file, "close", None)
            if close is not None:
                close()

    # Reading

    def forget(self, block: int) -> None:
        """Drop what is cached of a block, which a writer has changed in the file."""
        self._pages.pop(block // _ENTRIES_PER_PAGE, None)
        self._bitmaps.pop(block, None)

    def _load_blocks(self, blocks: set[int]) -> None:
        """Read the table entries of these blocks, and the bitmaps if there is a parent."""
        self._load_pages({block // _ENTRIES_PER_PAGE for block in blocks})
        if self.parent is not None:
            self._load_bitmaps(blocks)

    def _load_pages(self, wanted: set[int]) -> None:
        if len(self._pages) + len(wanted) > _MAX_CACHED_PAGES:
            self._pages.clear()
        pages = sorted(wanted - self._pages.keys())
        ranges = [
            (
                self.header.table_offset + page * 4 * _ENTRIES_PER_PAGE,
                4 * min(_ENTRIES_PER_PAGE, self._blocks - page * _ENTRIES_PER_PAGE),
            )
            for page in pages
        ]
        for page, (file_offset, length), data in zip(
            pages, ranges, self._file.read_many(ranges), strict=True
        ):
            if len(data) != length:
                read_exactly(self._file, file_offset, length, "the block allocation table")
            entries = self._pages[page] = array("I", data)
            if sys.byteorder == "little":
                entries.byteswap()
            if not self._truncation:
                self._look_beyond_end(page, entries)

    def _load_bitmaps(self, blocks: set[int]) -> None:
        if len(self._bitmaps) + len(blocks) > _MAX_CACHED_BITMAPS:
            self._bitmaps.clear()
        wanted = sorted(b for b in blocks - self._bitmaps.keys() if self._block_offset(b) >= 0)
        ranges = [
            (self._block_offset(block) - self._bitmap_size, self._bitmap_size) for block in wanted
        ]
        self._bitmaps |= zip(wanted, self._file.read_many(ranges), strict=True)

    def _end_of(self, block: int, entry: int) -> int:
        """The end of the block's data in the file; the last block may be shorter."""
        length = min(self.block_size, self.size - block * self.block_size)
        return entry * s.SECTOR + int(self._bitmap_size) + length

    def _look_beyond_end(self, page: int, entries: array[int]) -> None:
        most = (self._file.size - self._bitmap_size - self.block_size) // s.SECTOR
        if max(entries) <= most:
            return
        for block, entry in enumerate(entries, page * _ENTRIES_PER_PAGE):
            if most < entry != s.NO_BLOCK and self._end_of(block, entry) > self._file.size:
                self._truncation = (
                    f"{self.name} is truncated: block {block} ends at {self._end_of(block, entry)},"
                    f" and the file has {self._file.size} bytes"
                )
                return

    def _block_offset(self, block: int) -> int:
        """The offset of the block's data in the file; -1 if it is not stored."""
        page, index = divmod(block, _ENTRIES_PER_PAGE)
        if page not in self._pages:  # another thread emptied the cache
            self._load_pages({page})
        entry = self._pages[page][index]
        if entry == s.NO_BLOCK:
            return -1
        file_offset: int = entry * s.SECTOR + self._bitmap_size
        if self._end_of(block, entry) > self._file.size:
            raise Corrupt(
                f"{self.name}: block {block} lies beyond the end of the file "
                f"(offset {file_offset})",
                hint=_DAMAGED,
            )
        return file_offset

    def _map_range(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Map a range to (_ZEROS, _FILE or _PARENT; offset there; length)."""
        if self.kind == "fixed":
            yield _FILE, offset, length
            return
        while length:
            block, start = divmod(offset, self.block_size)
            part = min(length, self.block_size - start)
            file_offset = self._block_offset(block)
            if file_offset < 0:
                yield (_PARENT if self.parent is not None else _ZEROS), offset, part
            elif self.parent is None:
                yield _FILE, file_offset + start, part
            else:
                yield from self._map_partial_block(block, file_offset, start, part)
            offset += part
            length -= part

    def _map_partial_block(
        self, block: int, file_offset: int, start: int, length: int
    ) -> Iterator[tuple[int, int, int]]:
        """Map a range of a block by its sector bitmap: a bit a sector, the highest first."""
        if block not in self._bitmaps:  # another thread emptied the cache
            self._load_bitmaps({block})
        bitmap, first, end = self._bitmaps[block], block * self.block_size, start + length
        while start < end:
            number = start // s.SECTOR
            own = bitmap[number >> 3] >> (7 - (number & 7)) & 1
            stop = number + 1
            while stop * s.SECTOR < end and bitmap[stop >> 3] >> (7 - (stop & 7)) & 1 == own:
                stop += 1
            count = min(stop * s.SECTOR, end) - start
            yield (_FILE, file_offset + start, count) if own else (_PARENT, first + start, count)
            start += count

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return self.read_many([(offset, length)])[0]

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many."""
        bounded = [
            (offset, max(0, min(length, self.size - offset))) if offset >= 0 else (0, 0)
            for offset, length in ranges
        ]
        if self.block_size:
            size = self.block_size
            self._load_blocks(
                {
                    block
                    for offset, length in bounded
                    if length
                    for block in range(offset // size, (offset + length - 1) // size + 1)
                }
            )
        plans = [list(self._map_range(*item)) for item in bounded]
        stored = [(p, n) for plan in plans for where, p, n in plan if where == _FILE]
        inherited = [(p, n) for plan in plans for where, p, n in plan if where == _PARENT]
        own = iter(zip(stored, self._file.read_many(stored), strict=True))
        parents = iter(self.parent.read_many(inherited) if self.parent is not None else ())
        results = []
        for plan in plans:
            parts = []
            for where, _, count in plan:
                if where == _FILE:
                    (file_offset, _), data = next(own)
                    if len(data) != count:
                        raise Corrupt(
                            f"{self.name}: {count} bytes at offset {file_offset} are missing",
                            hint=_DAMAGED,
                        )
                    parts.append(data)
                elif where == _PARENT:
                    parts.append(next(parents).ljust(count, b"\0"))
                else:
                    parts.append(bytes(count))
            results.append(b"".join(parts))
        return results

    def allocated_ranges(self) -> Iterator[Range]:
        """The ranges of the virtual disk that this file or a parent stores, merged."""
        if self.kind == "fixed":
            yield 0, self.size
            return
        inherited = ((o, o + n) for o, n in (self.parent.allocated_ranges() if self.parent else ()))
        start = end = 0
        for first, last in merge(self._stored_blocks(), inherited):
            if first > end:
                if end > start:
                    yield start, end - start
                start = first
            end = max(end, min(last, self.size))
        if end > start:
            yield start, end - start

    def _stored_blocks(self) -> Iterator[tuple[int, int]]:
        page_count = -(-self._blocks // _ENTRIES_PER_PAGE)
        for start in range(0, page_count, _PAGES_PER_BATCH):
            pages = range(start, min(start + _PAGES_PER_BATCH, page_count))
            self._load_pages(set(pages))
            for page in pages:
                if page not in self._pages:  # another thread emptied the cache
                    self._load_pages({page})
                entries = self._pages[page]
                if entries == _EMPTY_PAGE:
                    continue
                self.budget.spend(self.name, _OBJECTS_PER_PAGE)
                first = start = page * _ENTRIES_PER_PAGE
                size = self.block_size
                for block, entry in enumerate([*entries, s.NO_BLOCK], first):
                    if entry == s.NO_BLOCK:
                        if start < block:
                            yield start * size, block * size
                        start = block + 1


def _disk_size(footer: Any) -> int:
    """The current size in the footer; for disks of Virtual PC, the size of the geometry."""
    geometry: int = footer.cylinders * footer.heads * footer.sectors * s.SECTOR
    current: int = footer.current_size
    if footer.creator == b"vpc " and footer.cylinders < 65535 and geometry:
        return geometry
    return current
