"""VHDX disks, fixed, dynamic and differencing ([MS-VHDX]).

A read is mapped block by block: consecutive virtual blocks may lie anywhere in the file. Blocks
that are not present, zero, unmapped or undefined read as zeros. A log that must be replayed is
replayed in memory. In a differencing disk, blocks that are not present and sectors whose bit is not
set are read from the parent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from typing import TYPE_CHECKING

from imagetool.contracts import Range, Source
from imagetool.disk.files import PARENTS_OPTION
from imagetool.disk.guid import guid_text
from imagetool.disk.source import file_size_warnings
from imagetool.disk.vhdx.bat import BlockAllocationTable
from imagetool.disk.vhdx.metadata import VhdxMetadata, read_header, read_metadata
from imagetool.disk.vhdx.structs import NOT_PRESENT, PARTIALLY_PRESENT
from imagetool.errors import Corrupt, Unsupported

if TYPE_CHECKING:
    from imagetool.disk.parents import ParentLocator

SIGNATURE = b"vhdxfile"


class Vhdx:
    """The virtual disk in a VHDX file: a source of its sectors, and the metadata of the file."""

    format = "VHDX"

    def __init__(
        self, source: Source, find_parent: Callable[[ParentLocator], Vhdx] | None = None
    ) -> None:
        self.name = source.name
        self.budget = source.budget
        self._file = self._source = source
        self._warnings = file_size_warnings(source)
        header = read_header(source)
        if any(header.log_guid):
            from imagetool.disk.vhdx.log import replay

            source, sequence = replay(source, header.log_guid, header.log_offset, header.log_length)
            self._source = source
            self._warnings += (
                f"{self.name} was not closed cleanly; its log was replayed in memory, up to "
                f"sequence number {sequence}",
            )
        metadata = self.metadata = read_metadata(source, header)
        self.size = metadata.disk_size
        self.sector_size = metadata.logical_sector_size
        self.kind = "fixed" if metadata.leave_blocks_allocated else "dynamic"
        self.bat = BlockAllocationTable(source, metadata)
        self.parent: Vhdx | None = None
        self._bitmaps: dict[int, bytes] = {}
        if metadata.has_parent:
            self.kind = "differencing"
            self.parent = self._open_parent(find_parent)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the file and its parents; of a truncated table as far as it was read."""
        truncation = self.bat.truncation
        found = (*self._warnings, truncation) if truncation else self._warnings
        return found if self.parent is None else found + self.parent.warnings

    def _open_parent(self, find_parent: Callable[[ParentLocator], Vhdx] | None) -> Vhdx:
        if self.metadata.parent_locator is None:
            raise Corrupt(
                f"{self.name}: a differencing disk without a parent locator", hint=_DAMAGED
            )
        from imagetool.disk.vhdx.parent import read_locator

        locator = read_locator(self._source, *self.metadata.parent_locator)
        if find_parent is None:
            raise Unsupported(
                f"{self.name}: this is a differencing disk, and there is nowhere to look for its "
                f"parent ({', '.join(locator.paths)})",
                hint="Open it by its path, so that its own directory can be looked into.",
            )
        parent = find_parent(locator)
        if parent.metadata.data_write_guid not in locator.linkages:
            raise Corrupt(
                f"{self.name}: {parent.name} is not its parent, or was written to since (its "
                f"DataWriteGuid is {guid_text(parent.metadata.data_write_guid)})",
                hint=f"Put the parent as it was at that time beside it; {PARENTS_OPTION}.",
            )
        if parent.sector_size != self.sector_size:
            raise Corrupt(f"{self.name}: {parent.name} has sectors of another size", hint=_DAMAGED)
        return parent

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

    @property
    def identifiers(self) -> dict[str, str]:
        """FileWriteGuid, DataWriteGuid and VirtualDiskId."""
        metadata: VhdxMetadata = self.metadata
        return {
            "FileWriteGuid": guid_text(metadata.file_write_guid),
            "DataWriteGuid": guid_text(metadata.data_write_guid),
            "VirtualDiskId": guid_text(metadata.disk_id),
        }

    def forget(self, block: int) -> None:
        """Drop what is cached of a block, which a writer has changed in the file."""
        self.bat.invalidate(block)
        self._bitmaps.pop(block, None)

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        # The common case, a read within one block of a disk without parent: no lists, no joins.
        block, start = divmod(offset, self.metadata.block_size)
        if self.parent is None and start + length <= self.metadata.block_size:
            file_offset = self.bat.offset_of(block)
            return (
                bytes(length) if file_offset < 0 else self._read_fully(file_offset + start, length)
            )
        return self.read_many([(offset, length)])[0]

    def _read_fully(self, file_offset: int, length: int) -> bytes:
        data = self._source.read_at(file_offset, length)
        if len(data) != length:
            raise self._short_read(file_offset, length)
        return data

    def _short_read(self, file_offset: int, length: int) -> Corrupt:
        return Corrupt(
            f"{self.name}: {length} bytes at offset {file_offset} of the file could not be read",
            hint="The file changed or is truncated: compare it with its origin.",
        )

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many: a batch each for the table, the bitmaps, the blocks, the parent."""
        bounded = [
            (offset, max(0, min(length, self.size - offset))) if offset >= 0 else (0, 0)
            for offset, length in ranges
        ]
        size = self.metadata.block_size
        blocks = {
            block
            for offset, length in bounded
            if length
            for block in range(offset // size, (offset + length - 1) // size + 1)
        }
        self.bat.load(blocks)
        if self.parent is not None:
            self._load_bitmaps(blocks)
        stored: list[Range] = []
        inherited: list[Range] = []
        plans: list[list[tuple[int, int, int]]] = []
        for offset, length in bounded:
            plan: list[tuple[int, int, int]] = []
            for where, file_offset, count in self._map_range(offset, length):
                listed = (None, stored, inherited)[where]
                plan.append((where, 0 if listed is None else len(listed), count))
                if listed is not None:
                    listed.append((file_offset, count))
            plans.append(plan)
        data = (None, self._source.read_many(stored), self._read_parent(inherited))
        for (file_offset, count), piece in zip(stored, data[_FILE] or (), strict=True):
            if len(piece) != count:
                raise self._short_read(file_offset, count)
        return [
            b"".join(
                bytes(count) if (pieces := data[where]) is None else pieces[index]
                for where, index, count in plan
            )
            for plan in plans
        ]

    def _map_range(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Map a range to (_ZEROS, _FILE or _PARENT; offset there; length)."""
        size = self.metadata.block_size
        while length:
            block, start = divmod(offset, size)
            part = min(length, size - start)
            file_offset = self.bat.offset_of(block)
            if file_offset < 0:
                from_parent = self.parent is not None and self.bat.state_of(block) == NOT_PRESENT
                yield (_PARENT, offset, part) if from_parent else (_ZEROS, 0, part)
            elif self.parent is None or self.bat.state_of(block) != PARTIALLY_PRESENT:
                yield _FILE, file_offset + start, part
            else:
                yield from self._map_partial_block(block, file_offset, start, part)
            offset += part
            length -= part

    def _map_partial_block(
        self, block: int, file_offset: int, start: int, length: int
    ) -> Iterator[tuple[int, int, int]]:
        """Map a range of a partially present block: a bit a sector, the lowest first."""
        if block not in self._bitmaps:  # another thread emptied the cache
            self._load_bitmaps({block})
        bitmap, sector = self._bitmaps[block], self.sector_size
        first = block * self.metadata.block_size
        end = start + length
        while start < end:
            number = start // sector
            own = bitmap[number >> 3] >> (number & 7) & 1
            stop = number + 1
            while stop * sector < end and bitmap[stop >> 3] >> (stop & 7) & 1 == own:
                stop += 1
            count = min(stop * sector, end) - start
            yield (_FILE, file_offset + start, count) if own else (_PARENT, first + start, count)
            start += count

    def _load_bitmaps(self, blocks: set[int]) -> None:
        wanted = sorted(
            block
            for block in blocks - self._bitmaps.keys()
            if self.bat.state_of(block) == PARTIALLY_PRESENT
        )
        if len(self._bitmaps) + len(wanted) > _MAX_CACHED_BITMAPS:
            self._bitmaps.clear()
            wanted = sorted(b for b in blocks if self.bat.state_of(b) == PARTIALLY_PRESENT)
        ranges = [self.bat.bitmap_of(block) for block in wanted]
        for block, (file_offset, length), data in zip(
            wanted, ranges, self._source.read_many(ranges), strict=True
        ):
            if len(data) != length:
                raise self._short_read(file_offset, length)
            self._bitmaps[block] = data

    def _read_parent(self, ranges: Sequence[Range]) -> list[bytes]:
        """Read ranges of the parent, which reads as zeros beyond its end."""
        if self.parent is None or not ranges:
            return []
        return [
            data.ljust(length, b"\0")
            for (_, length), data in zip(ranges, self.parent.read_many(ranges), strict=True)
        ]

    def allocated_ranges(self) -> Iterator[Range]:
        """The ranges of the virtual disk that this file or a parent stores, merged."""
        size = self.metadata.block_size
        own = ((first * size, last * size) for first, last in self.bat.present_blocks())
        inherited = ((o, o + n) for o, n in (self.parent.allocated_ranges() if self.parent else ()))
        start = end = 0
        for first, last in merge(own, inherited):
            if first > end:
                if end > start:
                    yield start, end - start
                start = first
            end = max(end, min(last, self.size))
        if end > start:
            yield start, end - start


_ZEROS, _FILE, _PARENT = 0, 1, 2
_MAX_CACHED_BITMAPS = 1024
_DAMAGED = "The image is damaged: compare it with its origin."
