"""Writes into the blocks of a VHD file (the specification of 2006, "Block Allocation Table").

A block begins with a bitmap of its sectors; a new one takes the position of the footer, which moves
behind it.
"""

from __future__ import annotations

import struct

from imagetool.disk.vhd import Vhd
from imagetool.disk.vhd import structs as s
from imagetool.lab.disks.growing_file import GrowingFile


class VhdBlocks:
    """The blocks of a VHD file; a fixed one is a single block."""

    def __init__(self, file: GrowingFile, disk: Vhd) -> None:
        self._file, self._disk = file, disk
        self.block_size = disk.block_size or disk.size
        self.sector_size = s.SECTOR if disk.parent is not None else 1
        """What is written begins and ends at sectors of this size."""
        self._bitmap_size = -(-(self.block_size // s.SECTOR // 8) // s.SECTOR) * s.SECTOR

    def write(self, block: int, start: int, data: bytes) -> None:
        """Write bytes into a block."""
        if self._disk.kind == "fixed":
            self._file.write_at(start, data)
            return
        entry_offset = self._disk.header.table_offset + 4 * block
        (entry,) = struct.unpack(">I", self._file.read_at(entry_offset, 4))
        if entry == s.NO_BLOCK:
            entry = self._append() // s.SECTOR
            self._file.write_at(entry_offset, struct.pack(">I", entry))
            self._disk.forget(block)
        offset = entry * s.SECTOR
        self._file.write_at(offset + self._bitmap_size + start, data)
        if self._disk.parent is not None:
            self._mark(offset, start, len(data))
            self._disk.forget(block)

    def _append(self) -> int:
        """Append a block; return its offset. All sectors of a disk without parent are its own."""
        offset = self._file.size - s.FOOTER_SIZE
        footer = self._file.read_at(offset, s.FOOTER_SIZE)
        own = b"\0" if self._disk.parent is not None else b"\xff"
        end = offset + self._bitmap_size + self.block_size
        self._file.truncate(end)
        self._file.write_at(offset, own * self._bitmap_size)
        self._file.write_at(offset + self._bitmap_size, bytes(s.FOOTER_SIZE))  # the old footer
        self._file.write_at(end, footer)
        return offset

    def _mark(self, offset: int, start: int, length: int) -> None:
        """Set the bits of sectors: the highest bit of a byte is its first sector."""
        bits = int.from_bytes(self._file.read_at(offset, self._bitmap_size), "big")
        count = length // s.SECTOR
        behind = 8 * self._bitmap_size - start // s.SECTOR - count
        bits |= ((1 << count) - 1) << behind
        self._file.write_at(offset, bits.to_bytes(self._bitmap_size, "big"))
