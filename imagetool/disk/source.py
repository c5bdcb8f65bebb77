"""Sources made of a part of another source, or of bytes in memory (imagetool.contracts.Source)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from imagetool.budget import Budget
from imagetool.contracts import Range, Source
from imagetool.errors import Corrupt

_PIECE_SIZE = 1 << 20


def read_exactly(source: Source, offset: int, length: int, what: str) -> bytes:
    """Read `length` bytes; raises Corrupt, naming the structure `what`, if there are fewer."""
    data = source.read_at(offset, length) if offset >= 0 and length >= 0 else b""
    if len(data) != length:
        raise Corrupt(
            f"{source.name}: {what} at offset {offset} needs {length} bytes, "
            f"and the data ends at {source.size}",
            hint="The image is truncated or damaged: compare it with its origin.",
        )
    return data


def read_in_pieces(source: Source) -> Iterator[bytes]:
    """Read all of a source, a piece at a time. Raises Corrupt where it ends early."""
    for offset in range(0, source.size, _PIECE_SIZE):
        length = min(_PIECE_SIZE, source.size - offset)
        yield read_exactly(source, offset, length, "its data")


def file_size_warnings(source: Source) -> tuple[str, ...]:
    """A warning where the file of a disk is no whole number of sectors, as no program makes it."""
    if source.size % 512 == 0:
        return ()
    return (
        f"{source.name} is truncated: {source.size} bytes are no whole number of sectors of 512",
    )


class SourceSlice:
    """A range of a source as a source of its own: a partition, a cabinet in a disc."""

    __slots__ = ("_offset", "_source", "budget", "name", "size")

    def __init__(self, source: Source, offset: int, size: int, name: str) -> None:
        if offset < 0 or size < 0 or offset + size > source.size:
            raise Corrupt(
                f"{name}: {size} bytes from offset {offset} lie beyond the end of "
                f"{source.name} ({source.size} bytes)",
                hint="The image is truncated or damaged: compare it with its origin.",
            )
        self._source = source
        self.budget = source.budget
        self._offset = offset
        self.size = size
        self.name = name

    def _clamp(self, offset: int, length: int) -> Range:
        start = min(max(offset, 0), self.size)
        return self._offset + start, max(0, min(length, self.size - start))

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at, counted from the start of the slice."""
        return self._source.read_at(*self._clamp(offset, length))

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many, counted from the start of the slice."""
        return self._source.read_many([self._clamp(*item) for item in ranges])


class MemorySource:
    """Bytes in memory as a source."""

    __slots__ = ("_data", "budget", "name")

    def __init__(self, data: bytes, name: str = "memory") -> None:
        self._data = data
        self.budget = Budget()
        self.name = name

    @property
    def size(self) -> int:
        """The length in bytes."""
        return len(self._data)

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return self._data[max(offset, 0) : max(offset, 0) + max(length, 0)]

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many."""
        return [self.read_at(*item) for item in ranges]
