"""Bytes: files, virtual disks (VHDX, raw), partition tables; sources stacked on sources."""

from imagetool.contracts import Range, Source
from imagetool.disk.container import Disk, open_disk
from imagetool.disk.local_files import FileSource
from imagetool.disk.partition_reader import read_partitions
from imagetool.disk.partitions import Partition, PartitionTable
from imagetool.disk.source import MemorySource, SourceSlice

__all__ = [
    "Disk",
    "FileSource",
    "MemorySource",
    "Partition",
    "PartitionTable",
    "Range",
    "Source",
    "SourceSlice",
    "open_disk",
    "read_partitions",
]
