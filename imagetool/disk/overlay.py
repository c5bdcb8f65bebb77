"""A source with some of its bytes replaced: what a log says, over what the file holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from imagetool.disk.source import Range, Source


class Overlay:
    """A source with sectors replaced, and stretches that read as zeros below those.

    `size` may be larger than that of the source below: what it lacks is zero.
    """

    __slots__ = ("_below", "_sector", "_sectors", "_zeros", "name", "size")

    def __init__(
        self,
        below: Source,
        size: int,
        sectors: Mapping[int, bytes],
        sector: int,
        zeros: Sequence[Range] = (),
    ) -> None:
        self._below = below
        self._sector = sector
        self._sectors = sectors
        self._zeros = zeros
        self.name = below.name
        self.size = size

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return self.read_many([(offset, length)])[0]

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many: one batch of the source below, patched."""
        bounded = [
            (offset, max(0, min(length, self.size - offset))) if offset >= 0 else (0, 0)
            for offset, length in ranges
        ]
        return [
            self._patched(start, length, data)
            for (start, length), data in zip(bounded, self._below.read_many(bounded), strict=True)
        ]

    def _patched(self, start: int, length: int, below: bytes) -> bytes:
        data = bytearray(below.ljust(length, b"\0"))
        for offset, count in self._zeros:
            first, last = max(offset, start) - start, min(offset + count, start + length) - start
            if first < last:
                data[first:last] = bytes(last - first)
        size = self._sector
        for sector in range(start // size, -(-(start + length) // size)):
            new = self._sectors.get(sector)
            if new is not None:
                place = sector * size - start
                first, last = max(0, -place), min(size, length - place)
                data[place + first : place + last] = new[first:last]
        return bytes(data)
