"""Bytes: files, virtual disks (VHDX, raw), partition tables; sources stacked on sources."""

from imagetool.disk.container import Disk, open_disk
from imagetool.disk.file import FileSource
from imagetool.disk.partitions import Partition, PartitionTable
from imagetool.disk.source import Memory, Part, Range, Source
from imagetool.disk.tables import read_partitions

__all__ = [
    "Disk",
    "FileSource",
    "Memory",
    "Part",
    "Partition",
    "PartitionTable",
    "Range",
    "Source",
    "open_disk",
    "read_partitions",
]
