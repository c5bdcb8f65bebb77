"""A source with some sectors replaced, such as those that a log has yet to write."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from imagetool.contracts import Range, Source


class PatchedSource:
    """A source with ranges replaced by zeros, and sectors by `sectors` (number: bytes).

    A sector wins over a range of zeros. `size` may exceed that of the underlying source: the rest
    reads as zeros.
    """

    __slots__ = ("_sector_size", "_sectors", "_source", "_zeros", "budget", "name", "size")

    def __init__(
        self,
        source: Source,
        size: int,
        sectors: Mapping[int, bytes],
        sector_size: int,
        zeros: Sequence[Range] = (),
    ) -> None:
        self._source = source
        self.budget = source.budget
        self._sector_size = sector_size
        self._sectors = sectors
        self._zeros = _merged(zeros)
        self.name = source.name
        self.size = size

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return self.read_many([(offset, length)])[0]

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many: one batch of the underlying source, patched."""
        bounded = [
            (offset, max(0, min(length, self.size - offset))) if offset >= 0 else (0, 0)
            for offset, length in ranges
        ]
        return [
            self._apply_patches(start, length, data)
            for (start, length), data in zip(bounded, self._source.read_many(bounded), strict=True)
        ]

    def _apply_patches(self, start: int, length: int, data: bytes) -> bytes:
        patched = bytearray(data.ljust(length, b"\0"))
        end = start + length
        for index in range(bisect_right(self._zeros, (start, end)) - 1, len(self._zeros)):
            offset, zeros_end = self._zeros[index] if index >= 0 else (start, start)
            if offset >= end:
                break
            first, last = max(offset, start) - start, min(zeros_end, end) - start
            if first < last:
                patched[first:last] = bytes(last - first)
        size = self._sector_size
        for sector in range(start // size, -(-(start + length) // size)):
            new = self._sectors.get(sector)
            if new is not None:
                position = sector * size - start
                first, last = max(0, -position), min(size, length - position)
                patched[position + first : position + last] = new[first:last]
        return bytes(patched)


def _merged(ranges: Sequence[Range]) -> list[tuple[int, int]]:
    """The ranges by their start and end, ascending and apart."""
    merged: list[tuple[int, int]] = []
    for offset, length in sorted(ranges):
        if merged and offset <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], offset + length)
        else:
            merged.append((offset, offset + length))
    return merged
