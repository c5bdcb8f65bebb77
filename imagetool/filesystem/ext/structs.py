"""The layout of ext2, ext3 and ext4: Linux kernel documentation, "ext4 Data Structures"."""

from __future__ import annotations

import struct

from imagetool.disk.declarations import Bytes, Int16ul, Int32ul, Padding, Struct
from imagetool.disk.struct_layout import StructLayout

# "Super Block": 1,024 bytes into the volume
SUPERBLOCK_OFFSET = 1024
SuperBlock = StructLayout(
    Struct(
        "inodes_count" / Int32ul,
        "blocks_count_low" / Int32ul,
        Padding(12),
        "first_data_block" / Int32ul,
        "log_block_size" / Int32ul,
        Padding(4),
        "blocks_per_group" / Int32ul,
        Padding(4),
        "inodes_per_group" / Int32ul,
        Padding(12),
        "magic" / Int16ul,
        "state" / Int16ul,
        Padding(16),
        "revision" / Int32ul,
        Padding(8),
        "inode_size" / Int16ul,
        Padding(2),
        "compatible" / Int32ul,
        "incompatible" / Int32ul,
        "read_only_compatible" / Int32ul,
        "uuid" / Bytes(16),
        "label" / Bytes(16),
        Padding(88),
        "journal_inode" / Int32ul,
        "journal_device" / Int32ul,
        Padding(22),
        "descriptor_size" / Int16ul,
        Padding(4),
        "first_meta_group" / Int32ul,
        Padding(72),
        "blocks_count_high" / Int32ul,
        Padding(248),
        "backup_group_1" / Int32ul,
        "backup_group_2" / Int32ul,
    )
)
MAGIC = 0xEF53
IS_CLEAN = 1

# Incompatible features
NEEDS_RECOVERY, META_GROUPS, SIXTY_FOUR_BITS = 0x4, 0x10, 0x80
READABLE_FEATURES = (
    0x2 | NEEDS_RECOVERY | META_GROUPS | 0x40 | SIXTY_FOUR_BITS | 0x100 | 0x200 | 0x400
)
READABLE_FEATURES |= 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x20000
FEATURE_NAMES = {0x1: "compression", 0x8: "an external journal", 0x1000: "data in directories"}
SPARSE_SUPER = 1
SPARSE_SUPER2 = 0x200
"""Compatible: copies in the two groups that the superblock names."""
"""Read-only compatible: copies of the superblock in some groups only."""

# "Inode Table"
ROOT_INODE = 2
INODE_BLOCK = 40
INODE_SIZE_HIGH = 108
INODE_EXTRA = 128
FILE_TYPE_MASK, IS_DIRECTORY, IS_FILE, IS_LINK = 0xF000, 0x4000, 0x8000, 0xA000
USES_EXTENTS, IS_INLINE, IS_ENCRYPTED = 0x80000, 0x10000000, 0x800

# "Extent Tree"
EXTENT_MAGIC = 0xF30A
EXTENT_HEADER = struct.Struct("<HHHHI")
EXTENT = struct.Struct("<IHHI")  # first block, length, start high, start low
EXTENT_INDEX = struct.Struct("<IIHH")
UNWRITTEN = 32768

# "Directory Entries"
ENTRY = struct.Struct("<IHBB")

# "Extended Attributes"
ATTRIBUTE_MAGIC = 0xEA020000
ATTRIBUTE = struct.Struct("<BBHIII")
SYSTEM_ATTRIBUTE = 7
