"""Reading of the partition table of a disk: GPT, MBR, or none."""

from __future__ import annotations

from imagetool.disk.container import Disk
from imagetool.disk.gpt import read_gpt
from imagetool.disk.partitions import PartitionTable


def read_partitions(disk: Disk) -> PartitionTable:
    """Read the partition table of the disk; its scheme is "none" if the disk has no table.

    A raw file does not record its sector size: 512 bytes are tried first, then 4,096. Raises
    Corrupt for a damaged table.
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
