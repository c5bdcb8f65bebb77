"""VHDX disks, dynamic and fixed ([MS-VHDX]).

A read is mapped block by block: the next virtual block may lie anywhere in the file. Read are fully
present blocks; blocks that are not present, zero, unmapped or undefined read as zeros. A log that
must be replayed is replayed in memory. In a differencing disk, blocks that are not present and
sectors whose bit is not set come from the parent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from typing import TYPE_CHECKING

from imagetool.disk.guid import guid_text
from imagetool.disk.source import Range, Source
from imagetool.disk.vhdx.layout import Layout, read_header, read_layout
from imagetool.disk.vhdx.structs import NOT_PRESENT, PARTIALLY_PRESENT
from imagetool.disk.vhdx.table import BlockAllocationTable
from imagetool.errors import Corrupt, Unsupported

if TYPE_CHECKING:
    from imagetool.disk.parents import ParentLocator

SIGNATURE = b"vhdxfile"


class Vhdx:
    """The virtual disk in a VHDX file: a source, and what the file says of itself."""

    format = "VHDX"

    def __init__(
        self, source: Source, find_parent: Callable[[ParentLocator], Vhdx] | None = None
    ) -> None:
        self.name = source.name
        self._file = self._source = source
        self.warnings: tuple[str, ...] = ()
        header = read_header(source)
        if any(header.log_guid):
            from imagetool.disk.vhdx.log import replay

            source, sequence = replay(source, header.log_guid, header.log_offset, header.log_length)
            self._source = source
            self.warnings = (
                f"{self.name} was not closed cleanly; its log was replayed in memory, up to "
                f"sequence number {sequence}",
            )
        layout = self.layout = read_layout(source, header)
        self.size = layout.disk_size
        self.sector_size = layout.logical_sector_size
        self.kind = "fixed" if layout.leave_blocks_allocated else "dynamic"
        self.table = BlockAllocationTable(source, layout)
        self.parent: Vhdx | None = None
        self._bitmaps: dict[int, bytes] = {}
        if layout.has_parent:
            self.kind = "differencing"
            self.parent = self._open_parent(find_parent)
            self.warnings += self.parent.warnings

    def _open_parent(self, find_parent: Callable[[ParentLocator], Vhdx] | None) -> Vhdx:
        if self.layout.parent_locator is None:
            raise Corrupt(
                f"{self.name}: a differencing disk without a parent locator", hint=_DAMAGED
            )
        from imagetool.disk.vhdx.parent import read_locator

        locator = read_locator(self._source, *self.layout.parent_locator)
        if find_parent is None:
            raise Unsupported(
                f"{self.name}: this is a differencing disk, and there is nowhere to look for its "
                f"parent ({', '.join(locator.paths)})",
                hint="Open it by its path, so that its own directory can be looked into.",
            )
        parent = find_parent(locator)
        if parent.layout.data_write_guid not in locator.linkages:
            raise Corrupt(
                f"{self.name}: {parent.name} is not its parent, or was written to since (its "
                f"DataWriteGuid is {guid_text(parent.layout.data_write_guid)})",
                hint="Find the parent as it was when the child was made; --parents names "
                "directories to look into.",
            )
        if parent.sector_size != self.sector_size:
            raise Corrupt(f"{self.name}: {parent.name} has sectors of another size", hint=_DAMAGED)
        return parent

    @property
    def chain(self) -> tuple[str, ...]:
        """The names of the parents, the nearest first."""
        return () if self.parent is None else (self.parent.name, *self.parent.chain)

    def close(self) -> None:
        """Close the parents' files; the disk's own is the caller's."""
        if self.parent is not None:
            self.parent.close()
            close = getattr(self.parent._file, "close", None)
            if close is not None:
                close()

    @property
    def identifiers(self) -> dict[str, str]:
        """FileWriteGuid, DataWriteGuid and VirtualDiskId."""
        layout: Layout = self.layout
        return {
            "FileWriteGuid": guid_text(layout.file_write_guid),
            "DataWriteGuid": guid_text(layout.data_write_guid),
            "VirtualDiskId": guid_text(layout.disk_id),
        }

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        # Most reads lie inside one block of a disk of its own: no lists, no joins.
        block, start = divmod(offset, self.layout.block_size)
        if self.parent is None and start + length <= self.layout.block_size:
            place = self.table.offset_of(block)
            return bytes(length) if place < 0 else self._checked(place + start, length)
        return self.read_many([(offset, length)])[0]

    def _checked(self, place: int, length: int) -> bytes:
        data = self._source.read_at(place, length)
        if len(data) != length:
            raise self._short(place, length)
        return data

    def _short(self, place: int, length: int) -> Corrupt:
        return Corrupt(
            f"{self.name}: {length} bytes at offset {place} of the file could not be read",
            hint="The file changed or is truncated: compare it with its origin.",
        )

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many: a batch each for the table, the bitmaps, the blocks, the parent."""
        bounded = [
            (offset, max(0, min(length, self.size - offset))) if offset >= 0 else (0, 0)
            for offset, length in ranges
        ]
        size = self.layout.block_size
        blocks = {
            block
            for offset, length in bounded
            if length
            for block in range(offset // size, (offset + length - 1) // size + 1)
        }
        self.table.load(blocks)
        if self.parent is not None:
            self._load_bitmaps(blocks)
        stored: list[Range] = []
        above: list[Range] = []
        plans: list[list[tuple[int, int, int]]] = []
        for offset, length in bounded:
            plan: list[tuple[int, int, int]] = []
            for where, place, count in self._pieces(offset, length):
                listed = (None, stored, above)[where]
                plan.append((where, 0 if listed is None else len(listed), count))
                if listed is not None:
                    listed.append((place, count))
            plans.append(plan)
        data = (None, self._source.read_many(stored), self._from_parent(above))
        for (place, count), piece in zip(stored, data[_HERE] or (), strict=True):
            if len(piece) != count:
                raise self._short(place, count)
        return [
            b"".join(
                bytes(count) if (pieces := data[where]) is None else pieces[index]
                for where, index, count in plan
            )
            for plan in plans
        ]

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Where the bytes of a range come from: zeros, this file, the parent; place and length."""
        size = self.layout.block_size
        while length:
            block, start = divmod(offset, size)
            part = min(length, size - start)
            place = self.table.offset_of(block)
            if place < 0:
                inherited = self.parent is not None and self.table.state_of(block) == NOT_PRESENT
                yield (_PARENT, offset, part) if inherited else (_ZEROS, 0, part)
            elif self.parent is None or self.table.state_of(block) != PARTIALLY_PRESENT:
                yield _HERE, place + start, part
            else:
                yield from self._partial(block, place, start, part)
            offset += part
            length -= part

    def _partial(
        self, block: int, place: int, start: int, length: int
    ) -> Iterator[tuple[int, int, int]]:
        """The stretches of a partially present block: a bit for each sector, the lowest first."""
        if block not in self._bitmaps:  # another thread made room meanwhile
            self._load_bitmaps({block})
        bitmap, sector = self._bitmaps[block], self.sector_size
        first = block * self.layout.block_size
        end = start + length
        while start < end:
            number = start // sector
            own = bitmap[number >> 3] >> (number & 7) & 1
            stop = number + 1
            while stop * sector < end and bitmap[stop >> 3] >> (stop & 7) & 1 == own:
                stop += 1
            count = min(stop * sector, end) - start
            yield (_HERE, place + start, count) if own else (_PARENT, first + start, count)
            start += count

    def _load_bitmaps(self, blocks: set[int]) -> None:
        wanted = sorted(
            block
            for block in blocks - self._bitmaps.keys()
            if self.table.state_of(block) == PARTIALLY_PRESENT
        )
        if len(self._bitmaps) + len(wanted) > _BITMAPS_KEPT:
            self._bitmaps.clear()
            wanted = sorted(b for b in blocks if self.table.state_of(b) == PARTIALLY_PRESENT)
        places = [self.table.bitmap_of(block) for block in wanted]
        for block, (place, length), data in zip(
            wanted, places, self._source.read_many(places), strict=True
        ):
            if len(data) != length:
                raise self._short(place, length)
            self._bitmaps[block] = data

    def _from_parent(self, ranges: Sequence[Range]) -> list[bytes]:
        """What the parent holds; a parent that is smaller than its child is zero beyond its end."""
        if self.parent is None or not ranges:
            return []
        return [
            data.ljust(length, b"\0")
            for (_, length), data in zip(ranges, self.parent.read_many(ranges), strict=True)
        ]

    def allocated(self) -> Iterator[Range]:
        """The stretches of the virtual disk that this file or a parent stores, merged."""
        size = self.layout.block_size
        own = ((block * size, (block + 1) * size) for block in self.table.present())
        above = ((o, o + n) for o, n in (self.parent.allocated() if self.parent else ()))
        start = end = 0
        for first, last in merge(own, above):
            if first > end:
                if end > start:
                    yield start, end - start
                start = first
            end = max(end, min(last, self.size))
        if end > start:
            yield start, end - start


_ZEROS, _HERE, _PARENT = 0, 1, 2
_BITMAPS_KEPT = 1024
_DAMAGED = "The image is damaged: compare it with its origin."
