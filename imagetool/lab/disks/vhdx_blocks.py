"""Writes into the blocks of a VHDX file, as Windows makes them ([MS-VHDX] 2.2.2, 2.5).

A block that is written for the first time is appended to the file before its entry in the block
allocation table is set. In a differencing disk it is partially present: a bitmap has a bit for each
sector that is its own. Both headers get new identifiers with the first write.
"""

from __future__ import annotations

import struct
from uuid import uuid4

from google_crc32c import value as crc32c

from imagetool.disk.vhdx import Vhdx
from imagetool.disk.vhdx import structs as s
from imagetool.errors import Unsupported
from imagetool.lab.disks.growing_file import GrowingFile


class VhdxBlocks:
    """The blocks of a VHDX file. Raises Unsupported for one whose log is not empty."""

    def __init__(self, file: GrowingFile, disk: Vhdx) -> None:
        if disk.warnings:
            raise Unsupported(f"{file.name}: the emulated host does not write a disk with warnings")
        self._file, self._disk = file, disk
        self.block_size = disk.metadata.block_size
        self.sector_size = disk.sector_size if disk.parent is not None else 1
        """What is written begins and ends at sectors of this size."""
        self._headers_renewed = False

    def write(self, block: int, start: int, data: bytes) -> None:
        """Write bytes into a block."""
        self._renew_headers()
        table = self._disk.bat
        state = table.state_of(block)
        if state not in (s.FULLY_PRESENT, s.PARTIALLY_PRESENT):
            state = self._allocate(block, state)
        self._file.write_at(table.offset_of(block) + start, data)
        if state == s.PARTIALLY_PRESENT:
            self._mark(block, start, len(data))

    def _allocate(self, block: int, state: int) -> int:
        """Append a block of zeros; return its state."""
        # What was zeros in spite of its parent stays so.
        partial = self._disk.parent is not None and state in (s.NOT_PRESENT, s.UNDEFINED)
        if partial:
            self._need_bitmap(block)
        new = s.PARTIALLY_PRESENT if partial else s.FULLY_PRESENT
        self._set_entry(self._disk.bat.entry_offset_of(block), self._append(self.block_size) | new)
        self._disk.forget(block)
        if partial:
            offset, length = self._disk.bat.bitmap_of(block)
            self._file.write_at(offset, bytes(length))
        return new

    def _append(self, length: int) -> int:
        offset = -(-self._file.size // s.MIB) * s.MIB
        self._file.truncate(offset + length)
        return offset

    def _set_entry(self, entry_offset: int, value: int) -> None:
        self._file.write_at(entry_offset, struct.pack("<Q", value))

    def _need_bitmap(self, block: int) -> None:
        """Append the sector bitmap of the block's chunk, where it has none."""
        entry_offset = self._disk.bat.bitmap_entry_offset_of(block)
        (entry,) = struct.unpack("<Q", self._file.read_at(entry_offset, 8))
        if entry & 7 != s.FULLY_PRESENT:
            self._set_entry(entry_offset, self._append(s.MIB) | s.FULLY_PRESENT)
            self._disk.forget(block)

    def _mark(self, block: int, start: int, length: int) -> None:
        """Set the bits of sectors: the lowest bit of a byte is its first sector."""
        offset, size = self._disk.bat.bitmap_of(block)
        bits = int.from_bytes(self._file.read_at(offset, size), "little")
        first, count = start // self.sector_size, length // self.sector_size
        bits |= ((1 << count) - 1) << first
        self._file.write_at(offset, bits.to_bytes(size, "little"))
        self._disk.forget(block)

    def _renew_headers(self) -> None:
        """Write new identifiers into both headers, the older one first ([MS-VHDX] 2.2.2)."""
        if self._headers_renewed:
            return
        self._headers_renewed = True
        headers = [self._file.read_at(offset, s.HEADER_SIZE) for offset in s.HEADER_OFFSETS]
        numbers = [struct.unpack_from("<Q", header, 8)[0] for header in headers]
        newest = max(range(2), key=numbers.__getitem__)
        identifiers = uuid4().bytes_le + uuid4().bytes_le
        for step, slot in enumerate((1 - newest, newest), 1):
            header = bytearray(headers[newest])
            struct.pack_into("<I", header, 4, 0)
            struct.pack_into("<Q", header, 8, numbers[newest] + step)
            header[16:48] = identifiers
            struct.pack_into("<I", header, 4, crc32c(bytes(header)))
            self._file.write_at(s.HEADER_OFFSETS[slot], bytes(header))
