"""The layout of FAT: Microsoft, "FAT: General Overview of On-Disk Format", 1.03; ECMA-107."""

from __future__ import annotations

import struct

from imagetool.disk.declarations import Int8ul, Int16ul, Int32ul, Padding, Struct
from imagetool.disk.struct_layout import StructLayout

# "Boot Sector and BPB Structure"
BootSector = StructLayout(
    Struct(
        Padding(11),
        "bytes_per_sector" / Int16ul,
        "sectors_per_cluster" / Int8ul,
        "reserved_sectors" / Int16ul,
        "table_count" / Int8ul,
        "root_entries" / Int16ul,
        "total_sectors_16" / Int16ul,
        Padding(1),
        "table_sectors_16" / Int16ul,
        Padding(8),
        "total_sectors_32" / Int32ul,
        "table_sectors_32" / Int32ul,
        Padding(4),
        "root_cluster" / Int32ul,
    )
)
MIN_FAT16_CLUSTERS, MIN_FAT32_CLUSTERS = 4085, 65525
"""The least numbers of clusters of a FAT16 and a FAT32 volume; only they tell the types apart."""

# "FAT Directory Structure", "FAT Long Directory Entries"
ENTRY = struct.Struct(
    "<8s3sBB7xHHHHI"
)  # name, suffix, attributes, case, high, time, date, low, size
ENTRY_SIZE = 32
IS_VOLUME, IS_DIRECTORY, IS_LONG_NAME = 0x08, 0x10, 0x0F
LOWER_NAME, LOWER_SUFFIX = 0x08, 0x10
DELETED, END_OF_DIRECTORY = 0xE5, 0x00
IS_LAST_LONG = 0x40
