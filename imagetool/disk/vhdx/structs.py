"""The structures of a VHDX file: [MS-VHDX], "Virtual Hard Disk v2 (VHDX) File Format"."""

from __future__ import annotations

from uuid import UUID

from imagetool.disk.declarations import (
    Bytes,
    Const,
    Int16ul,
    Int32ul,
    Int64ul,
    Padding,
    Struct,
)
from imagetool.disk.struct_layout import StructLayout

KIB = 1 << 10
MIB = 1 << 20


Guid = Bytes(16)
"""A GUID as stored: compared as bytes, for a disk has dozens and only three are shown."""


def _guid(text: str) -> bytes:
    return UUID(text).bytes_le


# 2.2.2 Headers: two, at 64 KiB and 128 KiB, 4 KiB each
HEADER_OFFSETS = (64 * KIB, 128 * KIB)
HEADER_SIZE = 4 * KIB
Header = StructLayout(
    Struct(
        "signature" / Const(b"head"),
        "checksum" / Int32ul,
        "sequence_number" / Int64ul,
        "file_write_guid" / Guid,
        "data_write_guid" / Guid,
        "log_guid" / Guid,
        "log_version" / Int16ul,
        "version" / Int16ul,
        "log_length" / Int32ul,
        "log_offset" / Int64ul,
    )
)

# 2.2.3 Region Table: two copies, at 192 KiB and 256 KiB, 64 KiB each
REGION_TABLE_OFFSETS = (192 * KIB, 256 * KIB)
REGION_TABLE_SIZE = 64 * KIB
MAX_ENTRIES = 2047
RegionTableHead = StructLayout(
    Struct("signature" / Const(b"regi"), "checksum" / Int32ul, "entry_count" / Int32ul, Padding(4))
)
RegionEntry = StructLayout(
    Struct("guid" / Guid, "offset" / Int64ul, "length" / Int32ul, "required" / Int32ul)
)
BAT_REGION = _guid("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA_REGION = _guid("8b7ca206-4790-4b9a-b8fe-575f050f886e")

# 2.6.1 Metadata Table: the first 64 KiB of the metadata region
METADATA_TABLE_SIZE = 64 * KIB
METADATA_ENTRY_SIZE = 32
MetadataHead = StructLayout(
    Struct("signature" / Const(b"metadata"), Padding(2), "entry_count" / Int16ul)
)
MetadataEntry = StructLayout(
    Struct("item" / Guid, "offset" / Int32ul, "length" / Int32ul, "flags" / Int32ul, Padding(4))
)
IS_REQUIRED = 4

# 2.6.2 Known Metadata Items
FILE_PARAMETERS = _guid("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
VIRTUAL_DISK_SIZE = _guid("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
VIRTUAL_DISK_ID = _guid("beca12ab-b2e6-4523-93ef-c309e000c746")
LOGICAL_SECTOR_SIZE = _guid("8141bf1d-a96f-4709-ba47-f233a8faab5f")
PHYSICAL_SECTOR_SIZE = _guid("cda348c7-445d-4471-9cc9-e9885251c556")
PARENT_LOCATOR = _guid("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
LEAVE_BLOCKS_ALLOCATED = 1
HAS_PARENT = 2

# 2.5 Block Allocation Table: the state in the low three bits, the offset in MiB from bit 20 on
NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED, FULLY_PRESENT, PARTIALLY_PRESENT = 0, 1, 2, 3, 6, 7
