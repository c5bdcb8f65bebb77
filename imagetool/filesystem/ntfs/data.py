"""The data of a file as a source: runs, holes, compression units.

Linux-NTFS documentation, attribute "$DATA", concepts "Data Runs", "Compression".
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from imagetool.disk.extents import HOLE, Extent, read_extent_data
from imagetool.disk.source import Range, Source
from imagetool.errors import Corrupt, Encrypted
from imagetool.filesystem.ntfs import structs as s
from imagetool.filesystem.ntfs.record import Attribute
from imagetool.filesystem.ntfs.runs import SPARSE, decode_runs

_DAMAGED = "The volume is damaged: let the guest check it (chkdsk), or restore the image."
_LARGEST_UNIT = 1 << 20


class Data:
    """What an attribute that is not resident holds: plain, or with holes."""

    __slots__ = ("_clusters", "_initialised", "_places", "_starts", "_volume", "name", "size")

    def __init__(
        self, volume: Source, cluster: int, extents: Sequence[Attribute], name: str
    ) -> None:
        first = extents[0]
        self._volume = volume
        self._clusters = cluster
        self.name = name
        self.size = first.size
        self._initialised = min(first.initialised, first.size)
        self._starts: list[int] = []
        self._places: list[int] = []
        self.extend(extents)
        if self._starts[-1] * cluster < self._initialised:
            raise Corrupt(
                f"{name}: its runs hold {self._starts[-1] * cluster} of {self._initialised} bytes",
                hint=_DAMAGED,
            )

    def extend(self, extents: Sequence[Attribute]) -> None:
        """Take the runs of further extents, each of which begins where the one before ended."""
        total = self._volume.size // self._clusters
        if self._starts:
            self._starts.pop()
        end = extents[0].first_cluster if not self._starts else -1
        for extent in extents:
            if end not in (-1, extent.first_cluster):
                raise Corrupt(f"{self.name}: its run lists leave a gap", hint=_DAMAGED)
            end = extent.first_cluster
            runs = decode_runs(extent.run_bytes, extent.first_cluster, total, self.name)
            for start, count, place in runs:
                self._starts.append(start)
                self._places.append(place)
                end = start + count
        self._starts.append(max(end, 0))

    def pieces(self, offset: int, length: int) -> list[Extent]:
        """Where these bytes lie in the volume; what was never written is zero."""
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return []
        pieces: list[Extent] = []
        written = min(length, self._initialised - offset)
        zeros = length - max(written, 0)
        cluster, starts, places = self._clusters, self._starts, self._places
        if written > 0:
            run = bisect_right(starts, offset // cluster) - 1
            if run < 0:
                raise Corrupt(f"{self.name}: its runs do not begin with it", hint=_DAMAGED)
            while written > 0:
                inside = offset - starts[run] * cluster
                part = min(written, starts[run + 1] * cluster - offset)
                place = places[run]
                pieces.append((HOLE if place == SPARSE else place * cluster + inside, part))
                offset += part
                written -= part
                run += 1
        if zeros:
            pieces.append((HOLE, zeros))
        return pieces

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return read_extent_data(self._volume, [self.pieces(offset, length)])[0]

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many: one batch of the volume."""
        return read_extent_data(self._volume, [self.pieces(*item) for item in ranges])


class CompressedData:
    """What a compressed attribute holds: units of clusters, each compressed (LZNT1) or not."""

    __slots__ = ("_cache", "_stored", "_unit", "name", "size")

    def __init__(
        self, volume: Source, cluster: int, extents: Sequence[Attribute], name: str
    ) -> None:
        self._unit = cluster << extents[0].compression_unit
        if not 0 < self._unit <= _LARGEST_UNIT:
            raise Corrupt(f"{name}: a compression unit of {self._unit} bytes", hint=_DAMAGED)
        self._stored = Data(volume, cluster, extents, name)
        self._cache: tuple[int, bytes] = (-1, b"")
        self.name = name
        self.size = self._stored.size

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        first, last = offset // self._unit, (offset + length - 1) // self._unit
        data = b"".join(self._unit_at(number) for number in range(first, last + 1))
        start = offset - first * self._unit
        return data[start : start + length]

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many."""
        return [self.read_at(*item) for item in ranges]

    def _unit_at(self, number: int) -> bytes:
        if self._cache[0] == number:
            return self._cache[1]
        start = number * self._unit
        wanted = min(self._unit, self.size - start)
        pieces = self._stored.pieces(start, self._unit)
        # A hole at the end of a unit says that what stands before it is compressed.
        if any(place < 0 for place, _ in pieces) and any(place >= 0 for place, _ in pieces):
            from imagetool.compression.lznt1 import decompress

            packed = read_extent_data(
                self._stored._volume, [[piece for piece in pieces if piece[0] >= 0]]
            )[0]
            data = decompress(packed, wanted, self.name).ljust(wanted, b"\0")
        else:
            data = read_extent_data(self._stored._volume, [pieces])[0]
        self._cache = (number, data)
        return data


def open_data(
    volume: Source, cluster: int, extents: Sequence[Attribute], name: str
) -> Data | CompressedData:
    """The data of an attribute that is not resident, by the flags of its first extent.

    Raises Encrypted for a file that only its owner's key opens.
    """
    flags = extents[0].flags
    if flags & s.ENCRYPTED:
        raise Encrypted(
            f"{name}: the file is encrypted (EFS)", hint="Only its owner's key opens it."
        )
    if flags & s.COMPRESSED and extents[0].compression_unit:
        return CompressedData(volume, cluster, extents, name)
    return Data(volume, cluster, extents, name)
