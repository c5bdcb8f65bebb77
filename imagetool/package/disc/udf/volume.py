"""The volume of UDF: from the anchor to its partitions and the root directory.

Sources: ECMA-167 3/8.4 (volume descriptors), 3/10 (their layout), 4/14.1 (file sets), OSTA UDF
2.60, 2.2.3 (anchors). Not supported: metadata, virtual and sparable partitions, of Blu-ray and
rewritable media.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from imagetool.contracts import Source
from imagetool.errors import Corrupt, Unsupported
from imagetool.package.disc.side import SECTOR, damaged
from imagetool.package.disc.udf import tags
from imagetool.package.disc.udf.tags import Address

_MAX_DESCRIPTORS = 256
_MAX_POINTERS = 16
_MAX_MAPS = 8


class _Partition(NamedTuple):
    """A partition: offset on the disc and size, in bytes."""

    offset: int
    size: int


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
        offset = self.locate(Address.parse(logical, 248))
        file_set = tags.read_descriptor(source, offset, (tags.FILE_SET,), "file set")
        self.root = Address.parse(file_set, 400)

    def locate(self, address: Address) -> int:
        """Return the offset on the disc of what an address names. Raises Corrupt."""
        if address.partition >= len(self._partitions):
            raise damaged(self.source.name, f"there is no partition {address.partition}")
        partition = self._partitions[address.partition]
        offset = address.block * SECTOR
        if offset + max(address.length, 1) > partition.size:
            raise damaged(self.source.name, "an extent lies beyond the end of its partition")
        return partition.offset + offset

    # The descriptors

    def _read_sequence(self) -> tuple[bytes, dict[int, _Partition]]:
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

    def _read_descriptors(self, sector: int, length: int) -> tuple[bytes, dict[int, _Partition]]:
        """Read a sequence of volume descriptors; of several of a kind the last one counts."""
        logical: tuple[int, bytes] | None = None
        partitions: dict[int, tuple[int, _Partition]] = {}
        for data in self._sequence(sector, length):
            kind = tags.identify(data)
            (number,) = struct.unpack_from("<I", data, 16)
            if kind == tags.LOGICAL_VOLUME and (logical is None or number >= logical[0]):
                logical = number, data
            elif kind == tags.PARTITION:
                partition, start, count = struct.unpack_from("<H164xII", data, 22)
                known = partitions.get(partition)
                if known is None or number >= known[0]:
                    partitions[partition] = number, _Partition(start * SECTOR, count * SECTOR)
        if logical is None or not partitions:
            raise damaged(self.source.name, "UDF has no logical volume")
        return logical[1], {number: found for number, (_, found) in partitions.items()}

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

    def _read_maps(self, logical: bytes, partitions: dict[int, _Partition]) -> None:
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

    def _partition(self, entry: bytes, partitions: dict[int, _Partition]) -> _Partition:
        """Return the partition of a map of type 1; those of type 2 are of rewritable media."""
        if entry[0] != 1:
            kind = entry[5:28].rstrip(b"\0").decode("ascii", "replace")
            raise Unsupported(
                f"{self.source.name}: UDF with a partition of another kind ({kind or entry[0]})"
            )
        (number,) = struct.unpack_from("<H", entry, 4)
        if number not in partitions:
            raise damaged(self.source.name, f"there is no partition of the number {number}")
        return partitions[number]
