"""The volume of UDF: from the anchor to its partitions and the root directory.

Sources: ECMA-167 3/8.4 (volume descriptors), 3/10 (their layout), 4/14.1 (file sets), OSTA UDF
2.60, 2.2.3 (anchors) and 2.2.10 (metadata partitions).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from imagetool.contracts import Source
from imagetool.disk.extents import HOLE
from imagetool.errors import Corrupt, Unsupported
from imagetool.package.disc.side import SECTOR, damaged
from imagetool.package.disc.udf import tags
from imagetool.package.disc.udf.tags import Address

_MAX_DESCRIPTORS = 256
_MAX_POINTERS = 16
_MAX_MAPS = 8
_METADATA = b"*UDF Metadata Partition"

Extents = tuple[tuple[int, int, int], ...]
"""Offset in the file, length, and offset on the disc or HOLE, in bytes."""


@dataclass(frozen=True, slots=True)
class _Partition:
    """A partition by its map: its extents on the disc, as a file's."""

    extents: Extents

    def locate(self, offset: int, length: int, disc: str) -> list[tuple[int, int]]:
        """Return (length, offset on the disc) for a range of the partition. Raises Corrupt."""
        found = []
        for start, size, there in self.extents:
            if length > 0 and start <= offset < start + size and there != HOLE:
                part = min(length, start + size - offset)
                found.append((part, there + offset - start))
                offset, length = offset + part, length - part
        if length > 0:
            raise damaged(disc, f"an extent lies beyond the end of its partition by {length} bytes")
        return found


class UdfVolume:
    """The partitions of a UDF volume, and the address of its root directory.

    Raises Corrupt, Unsupported, BudgetSpent.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._partitions: list[_Partition] = []
        logical, partitions = self._read_sequence()
        (size,) = struct.unpack_from("<I", logical, 212)
        if size != SECTOR:
            raise Unsupported(f"{source.name}: UDF with logical blocks of {size} bytes")
        self._read_maps(logical, partitions)
        offset = self.locate(Address.parse(logical, 248))[0][1]
        file_set = tags.read_descriptor(source, offset, (tags.FILE_SET,), "file set")
        self.root = Address.parse(file_set, 400)

    def locate(self, address: Address) -> list[tuple[int, int]]:
        """Return (length, offset on the disc) of what an address names. Raises Corrupt."""
        if address.partition >= len(self._partitions):
            raise damaged(self.source.name, f"there is no partition {address.partition}")
        length = max(address.length, 1)
        partition = self._partitions[address.partition]
        return partition.locate(address.block * SECTOR, length, self.source.name)

    # The descriptors

    def _read_sequence(self) -> tuple[bytes, dict[int, Extents]]:
        """Return the logical volume's descriptor, and the partitions by their numbers."""
        failure: Corrupt | None = None
        for anchor in self._anchors():
            for field in (16, 24):  # the main sequence and its reserve
                length, sector = struct.unpack_from("<II", anchor, field)
                try:
                    return self._read_descriptors(sector, length)
                except Corrupt as error:
                    failure = failure or error
        raise failure or damaged(self.source.name, "UDF has no anchor")

    def _anchors(self) -> Iterator[bytes]:
        end = self.source.size // SECTOR
        for sector in dict.fromkeys((256, end - 1, end - 257, 512)):
            data = self.source.read_at(max(0, sector) * SECTOR, SECTOR)
            if tags.identify(data) == tags.ANCHOR:
                yield data

    def _read_descriptors(self, sector: int, length: int) -> tuple[bytes, dict[int, Extents]]:
        """Read a sequence of volume descriptors; of several of a kind the last one counts."""
        logical: tuple[int, bytes] | None = None
        partitions: dict[int, tuple[int, Extents]] = {}
        for data in self._sequence(sector, length):
            kind = tags.identify(data)
            (number,) = struct.unpack_from("<I", data, 16)
            if kind == tags.LOGICAL_VOLUME and (logical is None or number >= logical[0]):
                logical = number, data
            elif kind == tags.PARTITION:
                partition, start, count = struct.unpack_from("<H164xII", data, 22)
                extents = ((0, count * SECTOR, start * SECTOR),)
                if number >= partitions.get(partition, (0, ()))[0]:
                    partitions[partition] = number, extents
        if logical is None or not partitions:
            raise damaged(self.source.name, "UDF has no logical volume")
        return logical[1], {number: extents for number, (_, extents) in partitions.items()}

    def _sequence(self, sector: int, length: int) -> Iterator[bytes]:
        for _ in range(_MAX_POINTERS):
            pointer = None
            for index in range(min(length // SECTOR, _MAX_DESCRIPTORS)):
                data = self.source.read_at((sector + index) * SECTOR, SECTOR)
                self.source.budget.spend(self.source.name, 1)
                kind = tags.identify(data)
                if kind == tags.POINTER:
                    pointer = struct.unpack_from("<II", data, 20)
                if kind in (0, tags.POINTER, tags.TERMINATING):
                    break
                yield data
            if pointer is None:
                return
            length, sector = pointer

    # The partition maps

    def _read_maps(self, logical: bytes, partitions: dict[int, Extents]) -> None:
        """Read the partition maps of a logical volume (ECMA-167, 3/10.7)."""
        length, count = struct.unpack_from("<II", logical, 264)
        table = logical[440 : 440 + length]
        if count > _MAX_MAPS:
            raise damaged(self.source.name, f"{count} partitions")
        for _ in range(count):
            size = table[1] if len(table) > 1 else 0
            if size < 6 or size > len(table):
                raise damaged(self.source.name, "the table of partitions ends early")
            self._partitions.append(self._partition(table[:size], partitions))
            table = table[size:]

    def _partition(self, entry: bytes, partitions: dict[int, Extents]) -> _Partition:
        is_metadata = entry[0] == 2 and len(entry) == 64 and entry[5:28] == _METADATA
        if entry[0] != 1 and not is_metadata:
            kind = bytes(entry[5:28]).rstrip(b"\0").decode("ascii", "replace")
            raise Unsupported(
                f"{self.source.name}: UDF with a partition of another kind ({kind or entry[0]})"
            )
        (number,) = struct.unpack_from("<H", entry, 38 if is_metadata else 4)
        if number not in partitions:
            raise damaged(self.source.name, f"there is no partition of the number {number}")
        physical = _Partition(partitions[number])
        if not is_metadata:
            return physical
        from imagetool.package.disc.udf.entries import read_entry

        (block,) = struct.unpack_from("<I", entry, 40)
        self._partitions.append(physical)  # where the addresses of the metadata file count
        try:
            index = len(self._partitions) - 1
            metadata = read_entry(self, Address(0, SECTOR, block, index))
        finally:
            self._partitions.pop()
        return _Partition(metadata.extents)
