"""A volume with some of its blocks read from its journal."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence

from imagetool.contracts import Range, Source
from imagetool.disk.extents import Extent, read_extent_data

_MAGIC = bytes.fromhex("C03B3998")


class ReplayedSource:
    """A source whose blocks in `offsets` (number: offset) are read elsewhere in the same source.

    Those in `escaped` begin with the magic number of the journal, which the log does not hold.
    """

    __slots__ = ("_block_size", "_blocks", "_escaped", "_offsets", "_source", "budget", "name",
                 "size")  # fmt: skip

    def __init__(
        self,
        source: Source,
        block_size: int,
        offsets: Mapping[int, int],
        escaped: Collection[int],
    ) -> None:
        self._source = source
        self._block_size = block_size
        self._blocks = sorted(offsets)
        self._offsets = [offsets[block] for block in self._blocks]
        self._escaped = escaped
        self.budget = source.budget
        self.name = source.name
        self.size = source.size

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return self.read_many([(offset, length)])[0]

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many: one batch of the underlying source."""
        bounded = [
            (offset, max(0, min(length, self.size - offset))) if offset >= 0 else (0, 0)
            for offset, length in ranges
        ]
        found = read_extent_data(self._source, [self._extents(*item) for item in bounded])
        if not self._escaped:
            return found
        return [
            self._restore_magic(offset, data)
            for (offset, _), data in zip(bounded, found, strict=True)
        ]

    def _logged(self, offset: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The blocks of a range that are read elsewhere: their number, the two offsets."""
        size = self._block_size
        for index in range(bisect_left(self._blocks, offset // size), len(self._blocks)):
            block = self._blocks[index]
            if block * size >= end:
                return
            yield block, block * size, self._offsets[index]

    def _extents(self, offset: int, length: int) -> list[Extent]:
        """The extents of the underlying source that hold a range."""
        end = offset + length
        found: list[Extent] = []
        for _, start, logged in self._logged(offset, end):
            if start > offset:
                found.append((offset, start - offset))
                offset = start
            part = min(start + self._block_size, end) - offset
            found.append((logged + offset - start, part))
            offset += part
        if offset < end:
            found.append((offset, end - offset))
        return found

    def _restore_magic(self, offset: int, data: bytes) -> bytes:
        end = offset + len(data)
        for block, start, _ in self._logged(offset, end):
            first, last = max(offset, start), min(end, start + len(_MAGIC))
            if block in self._escaped and first < last:
                part = _MAGIC[first - start : last - start]
                data = data[: first - offset] + part + data[last - offset :]
        return data
