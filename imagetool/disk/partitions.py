"""The partition table of a disk, whichever it has: GPT, MBR, or none."""

from __future__ import annotations

from dataclasses import dataclass

from imagetool.disk.container import Disk
from imagetool.disk.source import Part, Source


@dataclass(frozen=True, slots=True)
class Partition:
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

    def of(self, disk: Source) -> Source:
        """The partition's bytes."""
        return Part(disk, self.offset, self.size, f"{disk.name}: partition {self.number}")


@dataclass(frozen=True, slots=True)
class PartitionTable:
    """What lies on a disk."""

    scheme: str
    """gpt, mbr or none."""
    identifier: str
    """The disk's GUID, or the eight hexadecimal digits of an MBR's signature."""
    sector_size: int
    partitions: tuple[Partition, ...]
    warnings: tuple[str, ...] = ()


def read_partitions(disk: Disk) -> PartitionTable:
    """The disk's partition table; scheme "none" where the disk is one bare volume.

    A raw file does not say how large its sectors are: where 512 bytes find no table, 4,096 are
    tried. Raises Corrupt for a table that contradicts itself.
    """
    from imagetool.disk.gpt import read_gpt
    from imagetool.disk.mbr import read_mbr

    sizes = (512, 4096) if disk.format == "raw" else (disk.sector_size,)
    for sector_size in sizes:
        table = read_gpt(disk, sector_size)
        if table is not None:
            return table
    for sector_size in sizes:
        table = read_mbr(disk, sector_size)
        if table is not None:
            return table
    return PartitionTable("none", "", disk.sector_size, ())
