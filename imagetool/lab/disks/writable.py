"""The virtual disk in a file, for reading and writing, as Windows does with a mounted one."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Protocol

from imagetool.disk import open_disk
from imagetool.disk.vhd import Vhd
from imagetool.disk.vhdx import Vhdx
from imagetool.errors import CannotOpen, Unsupported
from imagetool.lab.disks.growing_file import GrowingFile
from imagetool.lab.disks.vhd_blocks import VhdBlocks
from imagetool.lab.disks.vhdx_blocks import VhdxBlocks
from imagetool.lab.locks import lock_file


class _Blocks(Protocol):
    block_size: int
    sector_size: int

    def write(self, block: int, start: int, data: bytes) -> None: ...


class WritableDisk:
    """The virtual disk in a VHDX or VHD file; the parents of a child lie beside it.

    `locked`: True if the caller holds the lock on the file. Raises Unsupported for other formats,
    CannotOpen for a file that is in use.
    """

    def __init__(self, path: Path, *, locked: bool = False) -> None:
        self._file = GrowingFile(path)
        self._lock: int | None = None
        try:
            self._lock = None if locked else _lock(path)
            self._disk = open_disk(self._file, (path.absolute().parent,))
            self._blocks = self._open_blocks()
        except BaseException:
            self._close_file()
            raise
        self.size = self._disk.size
        self.budget = self._disk.budget

    def _open_blocks(self) -> _Blocks:
        if isinstance(self._disk, Vhdx):
            return VhdxBlocks(self._file, self._disk)
        if isinstance(self._disk, Vhd):
            return VhdBlocks(self._file, self._disk)
        raise Unsupported(f"{self._file.name}: the emulated host mounts VHDX and VHD files only")

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return self._disk.read_at(offset, length)

    def write_at(self, offset: int, data: bytes) -> None:
        """Write bytes inside the disk."""
        if offset < 0 or offset + len(data) > self.size:
            raise ValueError("a write beyond the disk")
        if not data:
            return
        offset, data = self._whole_sectors(offset, data)
        size = self._blocks.block_size
        while data:
            block, start = divmod(offset, size)
            part = data[: size - start]
            self._blocks.write(block, start, part)
            offset, data = offset + len(part), data[len(part) :]

    def _whole_sectors(self, offset: int, data: bytes) -> tuple[int, bytes]:
        """Complete the first and the last sector with what is in them."""
        sector, end = self._blocks.sector_size, offset + len(data)
        first, last = offset // sector * sector, -(-end // sector) * sector
        before, behind = self.read_at(first, offset - first), self.read_at(end, last - end)
        return first, before + data + behind

    def close(self) -> None:
        """Flush the file to the disk and close it."""
        self._disk.close()
        self._close_file()

    def _close_file(self) -> None:
        self._file.close()
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


def _lock(path: Path) -> int:
    try:
        return lock_file(path)
    except BlockingIOError:
        raise CannotOpen(f"{path}: the file is in use, or mounted") from None
