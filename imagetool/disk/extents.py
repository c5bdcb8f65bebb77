"""Data stored in extents of a source: those of a file, or the segments of a logical volume."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from imagetool.contracts import Range, Source
from imagetool.errors import Corrupt

HOLE = -1
"""The offset of an extent that is not stored (a hole, or never written): it reads as zeros."""

Extent = tuple[int, int]
"""(offset in the source or HOLE, length), in bytes."""


def read_extent_data(source: Source, extent_lists: Sequence[Sequence[Extent]]) -> list[bytes]:
    """Read the data of each list of extents, all in one batch.

    Raises Corrupt for an extent beyond the end of the source.
    """
    if len(extent_lists) == 1 and len(extent_lists[0]) == 1 and extent_lists[0][0][0] >= 0:
        source_offset, length = extent_lists[0][0]
        return [
            _require_whole(source, source_offset, length, source.read_at(source_offset, length))
        ]
    stored_extents = [extent for extents in extent_lists for extent in extents if extent[0] >= 0]
    blocks = iter(zip(stored_extents, source.read_many(stored_extents), strict=True))
    results: list[bytes] = []
    for extents in extent_lists:
        parts: list[bytes] = []
        for source_offset, length in extents:
            if source_offset < 0:
                parts.append(bytes(length))
            else:
                _, data = next(blocks)
                parts.append(_require_whole(source, source_offset, length, data))
        results.append(b"".join(parts))
    return results


def _require_whole(source: Source, source_offset: int, length: int, data: bytes) -> bytes:
    if len(data) != length:
        raise Corrupt(
            f"{source.name}: {length} bytes at offset {source_offset} lie beyond its end",
            hint="The image is truncated or damaged: compare it with its origin.",
        )
    return data


class ExtentMap:
    """A source made of extents of another: (offset here, length, offset there or HOLE).

    Bytes that no extent covers read as zeros. Raises Corrupt if two extents overlap.
    """

    __slots__ = ("_ends", "_source", "_source_offsets", "_starts", "budget", "name", "size")

    def __init__(
        self, source: Source, extents: Iterable[tuple[int, int, int]], size: int, name: str
    ) -> None:
        self._source = source
        self.budget = source.budget
        self.size = size
        self.name = name
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._source_offsets: list[int] = []
        end = 0
        for start, length, source_offset in sorted(extents):
            if start < end or length < 0:
                raise Corrupt(
                    f"{name}: two extents claim offset {start}",
                    hint="The volume is damaged: let the guest check it, or restore the image.",
                )
            end = start + length
            self._starts.append(start)
            self._ends.append(end)
            self._source_offsets.append(source_offset)

    def extents(self, offset: int, length: int) -> list[Extent]:
        """Map a range to extents of the underlying source."""
        length = min(length, self.size - offset)
        found: list[Extent] = []
        if offset < 0:
            return found
        index = max(0, bisect_right(self._starts, offset) - 1)
        while length > 0:
            while index < len(self._starts) and self._ends[index] <= offset:
                index += 1
            if index == len(self._starts):
                found.append((HOLE, length))
                break
            gap = self._starts[index] - offset
            if gap > 0:
                part, source_offset = min(gap, length), HOLE
            else:
                part, source_offset = (
                    min(self._ends[index] - offset, length),
                    self._source_offsets[index],
                )
                source_offset = (
                    source_offset
                    if source_offset < 0
                    else source_offset + offset - self._starts[index]
                )
            found.append((source_offset, part))
            offset += part
            length -= part
        return found

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return read_extent_data(self._source, [self.extents(offset, length)])[0]

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many: one batch of the underlying source."""
        return read_extent_data(self._source, [self.extents(*item) for item in ranges])
