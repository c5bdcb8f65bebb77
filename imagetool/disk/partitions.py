"""Partitions, and the table that lists them."""

from __future__ import annotations

from typing import NamedTuple

from imagetool.disk.source import Source, SourceSlice


class Partition(NamedTuple):
    """A stretch of a disk, in bytes."""

    number: int
    """Counted from 1, in the order of the table."""
    offset: int
    size: int
    type: str
    """The GUID of a GPT partition, the two hexadecimal digits of an MBR partition."""
    type_name: str
    """What that type is called, or an empty string."""
    label: str
    identifier: str
    """The GUID of a GPT partition; empty on MBR."""

    def slice(self, disk: Source) -> Source:
        """The partition's bytes."""
        return SourceSlice(disk, self.offset, self.size, f"{disk.name}: partition {self.number}")


class PartitionTable(NamedTuple):
    """What lies on a disk."""

    scheme: str
    """gpt, mbr or none."""
    identifier: str
    """The disk's GUID, or the eight hexadecimal digits of an MBR's signature."""
    sector_size: int
    partitions: tuple[Partition, ...]
    warnings: tuple[str, ...] = ()
