"""Bytes that lie in pieces over a source: the extents of a file, the segments of a volume."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from imagetool.disk.source import Range, Source
from imagetool.errors import Corrupt

ZEROS = -1
"""The place of a piece that lies nowhere: a hole, or what was never written."""

Piece = tuple[int, int]
"""Where in the source (ZEROS: nowhere), and how many bytes."""


def read_pieces(source: Source, lists: Sequence[Sequence[Piece]]) -> list[bytes]:
    """The bytes that each list of pieces describes, read in one batch.

    Raises Corrupt for a piece beyond the end of the source.
    """
    if len(lists) == 1 and len(lists[0]) == 1 and lists[0][0][0] >= 0:
        place, length = lists[0][0]
        return [_whole(source, place, length, source.read_at(place, length))]
    stored = [piece for pieces in lists for piece in pieces if piece[0] >= 0]
    blocks = iter(zip(stored, source.read_many(stored), strict=True))
    results: list[bytes] = []
    for pieces in lists:
        parts: list[bytes] = []
        for place, length in pieces:
            if place < 0:
                parts.append(bytes(length))
            else:
                _, data = next(blocks)
                parts.append(_whole(source, place, length, data))
        results.append(b"".join(parts))
    return results


def _whole(source: Source, place: int, length: int, data: bytes) -> bytes:
    if len(data) != length:
        raise Corrupt(
            f"{source.name}: {length} bytes at offset {place} lie beyond its end",
            hint="The image is truncated or damaged: compare it with its origin.",
        )
    return data


class Pieces:
    """A source put together from stretches of another: (offset in it, bytes, place or ZEROS).

    What no stretch covers reads as zeros. Raises Corrupt where two stretches overlap.
    """

    __slots__ = ("_ends", "_places", "_starts", "_whole", "name", "size")

    def __init__(
        self, whole: Source, stretches: Iterable[tuple[int, int, int]], size: int, name: str
    ) -> None:
        self._whole = whole
        self.size = size
        self.name = name
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._places: list[int] = []
        end = 0
        for start, length, place in sorted(stretches):
            if start < end or length < 0:
                raise Corrupt(
                    f"{name}: two extents claim offset {start}",
                    hint="The volume is damaged: let the guest check it, or restore the image.",
                )
            end = start + length
            self._starts.append(start)
            self._ends.append(end)
            self._places.append(place)

    def pieces(self, offset: int, length: int) -> list[Piece]:
        """Where these bytes lie in the source below."""
        length = min(length, self.size - offset)
        found: list[Piece] = []
        if offset < 0:
            return found
        index = max(0, bisect_right(self._starts, offset) - 1)
        while length > 0:
            while index < len(self._starts) and self._ends[index] <= offset:
                index += 1
            if index == len(self._starts):
                found.append((ZEROS, length))
                break
            gap = self._starts[index] - offset
            if gap > 0:
                part, place = min(gap, length), ZEROS
            else:
                part, place = min(self._ends[index] - offset, length), self._places[index]
                place = place if place < 0 else place + offset - self._starts[index]
            found.append((place, part))
            offset += part
            length -= part
        return found

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return read_pieces(self._whole, [self.pieces(offset, length)])[0]

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many: one batch of the source below."""
        return read_pieces(self._whole, [self.pieces(*item) for item in ranges])
