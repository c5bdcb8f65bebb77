"""The structures of a VHD file: Microsoft, "Virtual Hard Disk Image Format Specification", 2006."""

from __future__ import annotations

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

FOOTER_SIZE = 512
HEADER_SIZE = 1024
SECTOR = 512
NO_BLOCK = 0xFFFFFFFF
FIXED, DYNAMIC, DIFFERENCING = 2, 3, 4

# "Hard Disk Footer Format"
Footer = StructLayout(
    Struct(
        "cookie" / Const(b"conectix"),
        "features" / Int32ub,
        "version" / Int32ub,
        "data_offset" / Int64ub,
        "time_stamp" / Int32ub,
        "creator" / Bytes(4),
        "creator_version" / Int32ub,
        "creator_host" / Bytes(4),
        "original_size" / Int64ub,
        "current_size" / Int64ub,
        "cylinders" / Int16ub,
        "heads" / Int8ub,
        "sectors" / Int8ub,
        "disk_type" / Int32ub,
        "checksum" / Int32ub,
        "unique_id" / Bytes(16),
    )
)

# "Dynamic Disk Header Format"
Header = StructLayout(
    Struct(
        "cookie" / Const(b"cxsparse"),
        Padding(8),
        "table_offset" / Int64ub,
        "header_version" / Int32ub,
        "max_entries" / Int32ub,
        "block_size" / Int32ub,
        "checksum" / Int32ub,
        "parent_id" / Bytes(16),
        "parent_time_stamp" / Int32ub,
        Padding(4),
        "parent_name" / Bytes(512),
    )
)
LOCATOR_COUNT = 8
Locator = StructLayout(
    Struct(
        "platform" / Bytes(4),
        "space" / Int32ub,
        "length" / Int32ub,
        Padding(4),
        "offset" / Int64ub,
    )
)
