"""VHDX disks, dynamic and fixed ([MS-VHDX]).

A read is mapped block by block: the next virtual block may lie anywhere in the file. Read are fully
present blocks; blocks that are not present, zero, unmapped or undefined read as zeros. A log that
must be replayed is replayed in memory. Refused by name, for now: differencing disks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from uuid import UUID

from imagetool.disk.source import Range, Source
from imagetool.disk.vhdx.layout import Layout, read_header, read_layout
from imagetool.disk.vhdx.log import replay
from imagetool.disk.vhdx.table import BlockAllocationTable
from imagetool.errors import Corrupt, Unsupported

SIGNATURE = b"vhdxfile"


class Vhdx:
    """The virtual disk in a VHDX file: a source, and what the file says of itself."""

    format = "VHDX"

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._source = source
        self.warnings: tuple[str, ...] = ()
        header = read_header(source)
        if any(header.log_guid):
            source, sequence = replay(source, header.log_guid, header.log_offset, header.log_length)
            self._source = source
            self.warnings = (
                "the disk was not closed cleanly; its log was replayed in memory, up to sequence "
                f"number {sequence}",
            )
        layout = self.layout = read_layout(source, header)
        if layout.has_parent:
            raise Unsupported(
                f"{source.name}: this is a differencing disk, which needs its parent",
                hint="Merge it into its parent, or convert it with Convert-VHD; reading chains "
                "comes later.",
            )
        self.size = layout.disk_size
        self.sector_size = layout.logical_sector_size
        self.kind = "fixed" if layout.leave_blocks_allocated else "dynamic"
        self.table = BlockAllocationTable(source, layout)

    @property
    def identifiers(self) -> dict[str, str]:
        """FileWriteGuid, DataWriteGuid and VirtualDiskId."""
        layout: Layout = self.layout
        return {
            "FileWriteGuid": str(UUID(bytes_le=layout.file_write_guid)),
            "DataWriteGuid": str(UUID(bytes_le=layout.data_write_guid)),
            "VirtualDiskId": str(UUID(bytes_le=layout.disk_id)),
        }

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        # Most reads lie inside one block: no lists, no joins.
        block, start = divmod(offset, self.layout.block_size)
        if start + length <= self.layout.block_size:
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
        """As Source.read_many: one batch for the table's pages, one for the blocks."""
        size = self.layout.block_size
        bounded = [
            (offset, max(0, min(length, self.size - offset))) if offset >= 0 else (0, 0)
            for offset, length in ranges
        ]
        self.table.load(
            block
            for offset, length in bounded
            if length
            for block in range(offset // size, (offset + length - 1) // size + 1)
        )
        stored: list[Range] = []
        plans: list[list[tuple[int, int]]] = []  # for each range its pieces: (index or -1, length)
        for offset, length in bounded:
            pieces: list[tuple[int, int]] = []
            while length:
                block, start = divmod(offset, size)
                part = min(length, size - start)
                place = self.table.offset_of(block)
                pieces.append((-1 if place < 0 else len(stored), part))
                if place >= 0:
                    stored.append((place + start, part))
                offset += part
                length -= part
            plans.append(pieces)
        blocks = self._source.read_many(stored)
        for (place, part), data in zip(stored, blocks, strict=True):
            if len(data) != part:
                raise self._short(place, part)
        return [
            b"".join(bytes(part) if index < 0 else blocks[index] for index, part in pieces)
            for pieces in plans
        ]

    def allocated(self) -> Iterator[Range]:
        """The stretches of the virtual disk that the file stores, merged."""
        size = self.layout.block_size
        start = end = 0
        for block in self.table.present():
            if block * size != end:
                if end > start:
                    yield start, end - start
                start = block * size
            end = min((block + 1) * size, self.size)
        if end > start:
            yield start, end - start
