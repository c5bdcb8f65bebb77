"""The partition table of a disk, whichever it has: GPT, MBR, or none."""

from __future__ import annotations

from imagetool.disk.container import Disk
from imagetool.disk.gpt import read_gpt
from imagetool.disk.partitions import PartitionTable


def read_partitions(disk: Disk) -> PartitionTable:
    """The disk's partition table; scheme "none" where the disk is one bare volume.

    A raw file does not say how large its sectors are: where 512 bytes find no table, 4,096 are
    tried. Raises Corrupt for a table that contradicts itself.
    """
    sizes = (512, 4096) if disk.format == "raw" else (disk.sector_size,)
    for sector_size in sizes:
        table = read_gpt(disk, sector_size)
        if table is not None:
            return table
    from imagetool.disk.mbr import read_mbr

    for sector_size in sizes:
        table = read_mbr(disk, sector_size)
        if table is not None:
            return table
    return PartitionTable("none", "", disk.sector_size, ())
