"""The layout of XFS: "XFS Algorithms & Data Structures", 3rd edition. Numbers are big-endian."""

from __future__ import annotations

import struct

from imagetool.disk.declarations import (
    Bytes,
    Const,
    Int8ub,
    Int16ub,
    Int32ub,
    Int64ub,
    Padding,
    Struct,
)
from imagetool.disk.struct_layout import StructLayout

# 13.1 "Superblocks"
SuperBlock = StructLayout(
    Struct(
        "magic" / Const(b"XFSB"),
        "block_size" / Int32ub,
        "block_count" / Int64ub,
        Padding(16),
        "uuid" / Bytes(16),
        "log_start" / Int64ub,
        "root_inode" / Int64ub,
        Padding(20),
        "group_blocks" / Int32ub,
        "group_count" / Int32ub,
        Padding(4),
        "log_blocks" / Int32ub,
        "version" / Int16ub,
        "sector_size" / Int16ub,
        "inode_size" / Int16ub,
        "inodes_per_block" / Int16ub,
        "label" / Bytes(12),
        "block_log" / Int8ub,
        "sector_log" / Int8ub,
        "inode_log" / Int8ub,
        "inodes_per_block_log" / Int8ub,
        "group_blocks_log" / Int8ub,
        Padding(67),
        "directory_block_log" / Int8ub,
        Padding(7),
        "features2" / Int32ub,
        Padding(12),
        "incompatible" / Int32ub,
    )
)
VERSION_MASK, HAS_MORE_BITS, HAS_FILE_TYPES_4 = 0xF, 0x8000, 0x200
HAS_FILE_TYPES_5, NEEDS_REPAIR = 0x1, 0x10
READABLE_FEATURES = 0x1FF

# 15 "Inodes"
INODE_CORE_4, INODE_CORE_5 = 100, 176
DEVICE, LOCAL, EXTENTS, BTREE = 0, 1, 2, 3
FILE_TYPE_MASK, IS_DIRECTORY, IS_FILE, IS_LINK = 0xF000, 0x4000, 0x8000, 0xA000
IS_REALTIME = 1
BIG_TIME, LARGE_COUNTERS = 8, 16

# 18 "Data Extents"
EXTENT = struct.Struct(">QQ")
NODE_HEADER_4, NODE_HEADER_5 = 24, 72
NODE_MAGIC = {b"BMAP": NODE_HEADER_4, b"BMA3": NODE_HEADER_5}

# 20 "Directories"
BLOCK_MAGIC = (b"XD2B", b"XDB3")
DIRECTORY_HEADERS = {b"XD2B": 16, b"XD2D": 16, b"XDB3": 64, b"XDD3": 64}
UNUSED = b"\xff\xff"

# 21 "Symbolic Links"
LINK_MAGIC = b"XSLM"
LINK_HEADER = 56
