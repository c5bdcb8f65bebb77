"""The value of a non-resident attribute as a source: runs, holes, compression units.

Linux-NTFS documentation, attribute "$DATA", concepts "Data Runs", "Compression".
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from imagetool.contracts import Range, Source
from imagetool.disk.extents import HOLE, Extent, read_extent_data
from imagetool.errors import Corrupt, Encrypted
from imagetool.filesystem.ntfs import structs as s
from imagetool.filesystem.ntfs.record import Attribute
from imagetool.filesystem.ntfs.runs import SPARSE, decode_runs

_DAMAGED = "The volume is damaged: let the guest check it (chkdsk), or restore the image."
_MAX_UNIT_SIZE = 1 << 20
_FEW_RUNS = 16  # cost nothing of the budget


class NonResidentData:
    """The value of a non-resident attribute that is not compressed; it may be sparse."""

    __slots__ = ("_cluster_size", "_initialised", "_lcns", "_vcns", "_volume", "budget", "name",
                 "size")  # fmt: skip

    def __init__(
        self, volume: Source, cluster_size: int, extents: Sequence[Attribute], name: str
    ) -> None:
        first = extents[0]
        self._volume = volume
        self.budget = volume.budget
        self._cluster_size = cluster_size
        self.name = name
        self.size = first.size
        self._initialised = min(first.initialised_size, first.size)
        self._vcns: list[int] = []
        self._lcns: list[int] = []
        self._add_runs(extents)
        if self._vcns[-1] * cluster_size < self._initialised:
            raise Corrupt(
                f"{name}: its runs hold {self._vcns[-1] * cluster_size} "
                f"of {self._initialised} bytes",
                hint=_DAMAGED,
            )

    def _add_runs(self, extents: Sequence[Attribute]) -> None:
        """Decode the run lists of all extents. Raises Corrupt where they leave a gap."""
        total = self._volume.size // self._cluster_size
        if self._vcns:
            self._vcns.pop()
        end = extents[0].first_vcn if not self._vcns else -1
        for extent in extents:
            if end not in (-1, extent.first_vcn):
                raise Corrupt(f"{self.name}: its run lists leave a gap", hint=_DAMAGED)
            end = extent.first_vcn
            known = len(self._lcns)
            runs = decode_runs(extent.run_bytes, extent.first_vcn, total, self.name)
            for start, count, lcn in runs:
                self._vcns.append(start)
                self._lcns.append(lcn)
                end = start + count
            if len(self._lcns) - known > _FEW_RUNS:
                self.budget.spend(self.name, len(self._lcns) - known)
        self._vcns.append(max(end, 0))

    def extents_at(self, offset: int, length: int) -> list[Extent]:
        """The parts of the volume that hold these bytes; beyond the initialised size HOLE."""
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return []
        extents: list[Extent] = []
        written = min(length, self._initialised - offset)
        zeros = length - max(written, 0)
        cluster_size, vcns, lcns = self._cluster_size, self._vcns, self._lcns
        if written > 0:
            run = bisect_right(vcns, offset // cluster_size) - 1
            if run < 0:
                raise Corrupt(f"{self.name}: its runs do not begin with it", hint=_DAMAGED)
            while written > 0:
                inside = offset - vcns[run] * cluster_size
                part = min(written, vcns[run + 1] * cluster_size - offset)
                lcn = lcns[run]
                extents.append((HOLE if lcn == SPARSE else lcn * cluster_size + inside, part))
                offset += part
                written -= part
                run += 1
        if zeros:
            extents.append((HOLE, zeros))
        return extents

    def stored_extents(self, vcn: int, count: int) -> tuple[list[Extent], bool]:
        """The parts of the volume that hold these clusters, up to the first hole or the end of the
        run list, whatever the sizes of the value; and whether they hold all of them."""
        extents: list[Extent] = []
        run = bisect_right(self._vcns, vcn) - 1
        while count and 0 <= run < len(self._lcns) and self._lcns[run] != SPARSE:
            inside = vcn - self._vcns[run]
            part = min(count, self._vcns[run + 1] - vcn)
            extents.append(
                ((self._lcns[run] + inside) * self._cluster_size, part * self._cluster_size)
            )
            vcn, count, run = vcn + part, count - part, run + 1
        return extents, not count

    @property
    def is_hole(self) -> bool:
        """True if it has runs, and none has clusters."""
        return bool(self._lcns) and all(lcn == SPARSE for lcn in self._lcns)

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return read_extent_data(self._volume, [self.extents_at(offset, length)])[0]

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many: one batch of the volume."""
        return read_extent_data(self._volume, [self.extents_at(*item) for item in ranges])


class CompressedData:
    """The value of a compressed attribute: units of clusters, each compressed (LZNT1) or not."""

    __slots__ = ("_cache", "_initialised", "_stored", "_unit_clusters", "_unit_size", "budget",
                 "name", "size")  # fmt: skip

    def __init__(
        self, volume: Source, cluster_size: int, extents: Sequence[Attribute], name: str
    ) -> None:
        self._unit_size = cluster_size << extents[0].compression_unit
        self._unit_clusters = 1 << extents[0].compression_unit
        self._initialised = min(extents[0].initialised_size, extents[0].size)
        if not 0 < self._unit_size <= _MAX_UNIT_SIZE:
            raise Corrupt(f"{name}: a compression unit of {self._unit_size} bytes", hint=_DAMAGED)
        self._stored = NonResidentData(volume, cluster_size, extents, name)
        self._cache: tuple[int, bytes] = (-1, b"")
        self.name = name
        self.budget = volume.budget
        self.size = self._stored.size

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        first, last = offset // self._unit_size, (offset + length - 1) // self._unit_size
        data = b"".join(self._read_unit(number) for number in range(first, last + 1))
        start = offset - first * self._unit_size
        return data[start : start + length]

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many."""
        return [self.read_at(*item) for item in ranges]

    def _read_unit(self, number: int) -> bytes:
        if self._cache[0] == number:
            return self._cache[1]
        start = number * self._unit_size
        wanted = min(self._unit_size, self.size - start)
        written = min(wanted, max(0, self._initialised - start))
        extents, whole = self._stored.stored_extents(
            number * self._unit_clusters, self._unit_clusters
        )
        data = read_extent_data(self._stored._volume, [extents])[0] if written else b""
        # A unit that ends with a hole is compressed: its data is shorter than the unit. The sizes
        # of the value say nothing about it: they may end anywhere within.
        if data and not whole:
            from imagetool.compression.lznt1 import decompress

            data = decompress(data, wanted, self.name)
        data = data[:written].ljust(wanted, b"\0")
        self._cache = (number, data)
        return data


def open_data(
    volume: Source, cluster_size: int, extents: Sequence[Attribute], name: str
) -> NonResidentData | CompressedData:
    """The value of a non-resident attribute, by the flags of its first extent.

    Raises Encrypted for one that EFS encrypted.
    """
    flags = extents[0].flags
    if flags & s.ENCRYPTED:
        raise Encrypted(
            f"{name}: the file is encrypted (EFS)", hint="Only its owner's key opens it."
        )
    if flags & s.COMPRESSED and extents[0].compression_unit:
        return CompressedData(volume, cluster_size, extents, name)
    return NonResidentData(volume, cluster_size, extents, name)
