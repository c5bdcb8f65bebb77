"""Partitions and partition tables, as data."""

from __future__ import annotations

from typing import NamedTuple

from imagetool.contracts import Source
from imagetool.disk.source import SourceSlice


class Partition(NamedTuple):
    """A partition of a disk; offset and size in bytes."""

    number: int
    """Counted from 1, in the order of the table."""
    offset: int
    size: int
    type: str
    """The GUID of a GPT partition, the two hexadecimal digits of an MBR partition."""
    type_name: str
    """The name of that type, or an empty string."""
    label: str
    identifier: str
    """The GUID of a GPT partition; empty on MBR."""

    def slice(self, disk: Source) -> Source:
        """The slice of the disk that the partition covers."""
        return SourceSlice(disk, self.offset, self.size, f"{disk.name}: partition {self.number}")


class PartitionTable(NamedTuple):
    """The partition table of a disk."""

    scheme: str
    """gpt, mbr or none."""
    identifier: str
    """The disk's GUID, or the eight hexadecimal digits of an MBR's signature."""
    sector_size: int
    partitions: tuple[Partition, ...]
    warnings: tuple[str, ...] = ()
