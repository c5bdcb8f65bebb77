"""In-place writes to a VHDX file, as Windows makes to a mounted one ([MS-VHDX] 2.2.2, 2.5).

A block that is written for the first time is appended to the file before its entry in the block
allocation table is set. Both headers get new identifiers with the first write.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from uuid import uuid4

from google_crc32c import value as crc32c

from imagetool.budget import Budget
from imagetool.contracts import Range
from imagetool.disk.vhdx import Vhdx
from imagetool.disk.vhdx import structs as s
from imagetool.errors import CannotOpen, Unsupported
from imagetool.lab.locks import lock_file


class _GrowingFile:
    """A source over the VHDX file, which grows as blocks are allocated."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.budget = Budget()
        try:
            self.descriptor = os.open(path, os.O_RDWR)
        except OSError as error:
            raise CannotOpen(f"{path}: cannot be opened for writing: {error.strerror}") from None

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        return os.pread(self.descriptor, length, offset) if offset >= 0 else b""

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        return [self.read_at(*item) for item in ranges]

    def write_at(self, offset: int, data: bytes) -> None:
        while data:
            done = os.pwrite(self.descriptor, data, offset)
            offset, data = offset + done, data[done:]


def _lock(path: Path) -> int:
    try:
        return lock_file(path)
    except BlockingIOError:
        raise CannotOpen(f"{path}: the file is in use, or mounted") from None


class WritableDisk:
    """The virtual disk in a VHDX file, for reading and writing.

    `locked`: True if the caller holds the lock on the file. Raises Unsupported for other formats,
    CannotOpen for a file that is in use.
    """

    def __init__(self, path: Path, *, locked: bool = False) -> None:
        self._file = _GrowingFile(path)
        self._lock = None if locked else _lock(path)
        if self._file.read_at(0, 8) != b"vhdxfile":
            os.close(self._file.descriptor)
            raise Unsupported(f"{path}: the emulated host mounts VHDX files only")
        self._disk = Vhdx(self._file)
        if self._disk.warnings:
            os.close(self._file.descriptor)
            raise Unsupported(f"{path}: the emulated host does not write a disk with a full log")
        self.size = self._disk.size
        self.budget = self._disk.budget
        self._headers_renewed = False

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return self._disk.read_at(offset, length)

    def write_at(self, offset: int, data: bytes) -> None:
        """Write bytes inside the disk."""
        if offset < 0 or offset + len(data) > self.size:
            raise ValueError("a write beyond the disk")
        self._renew_headers()
        size = self._disk.metadata.block_size
        while data:
            block, start = divmod(offset, size)
            part = data[: size - start]
            block_offset = self._disk.bat.offset_of(block)
            if block_offset < 0:
                block_offset = self._allocate(block)
            self._file.write_at(block_offset + start, part)
            offset, data = offset + len(part), data[len(part) :]

    def _allocate(self, block: int) -> int:
        table, size = self._disk.bat, self._disk.metadata.block_size
        block_offset = -(-self._file.size // s.MIB) * s.MIB
        os.ftruncate(self._file.descriptor, block_offset + size)
        self._file.write_at(
            table.entry_offset_of(block), struct.pack("<Q", block_offset | s.FULLY_PRESENT)
        )
        table.invalidate(block)
        return block_offset

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

    def close(self) -> None:
        """Flush the file to the disk and close it."""
        os.fsync(self._file.descriptor)
        os.close(self._file.descriptor)
        if self._lock is not None:
            os.close(self._lock)

    def __enter__(self) -> WritableDisk:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
