"""A disk file that is read and written, and grows as blocks are added."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from imagetool.budget import Budget
from imagetool.contracts import Range
from imagetool.errors import CannotOpen


class GrowingFile:
    """A source over a file, which can be written. Raises CannotOpen."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.budget = Budget()
        try:
            self._descriptor = os.open(path, os.O_RDWR)
        except OSError as error:
            raise CannotOpen(f"{path}: cannot be opened for writing: {error.strerror}") from None

    @property
    def size(self) -> int:
        """As Source.size."""
        return os.fstat(self._descriptor).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return os.pread(self._descriptor, length, offset) if offset >= 0 else b""

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many."""
        return [self.read_at(*item) for item in ranges]

    def write_at(self, offset: int, data: bytes) -> None:
        """Write all of the bytes."""
        while data:
            done = os.pwrite(self._descriptor, data, offset)
            offset, data = offset + done, data[done:]

    def truncate(self, size: int) -> None:
        """Give the file this size; what is added reads as zeros."""
        os.ftruncate(self._descriptor, size)

    def close(self) -> None:
        """Flush the file to the disk, and close it."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)
