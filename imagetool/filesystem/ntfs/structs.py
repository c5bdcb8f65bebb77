"""The layout of an NTFS boot sector, and the constants of NTFS.

Source: Linux-NTFS project, "NTFS Documentation", file $Boot, concept "File Record", attributes
"$STANDARD_INFORMATION" to "$LOGGED_UTILITY_STREAM"; Microsoft, "NTFS technical reference". Records,
attributes and index entries are read thousands of times and are unpacked where they are used.
"""

from __future__ import annotations

from imagetool.disk.declarations import (
    Bytes,
    Const,
    Int8sl,
    Int8ul,
    Int16ul,
    Int32ul,
    Int64ul,
    Padding,
    Struct,
)
from imagetool.disk.struct_layout import StructLayout

BootSector = StructLayout(
    Struct(
        Padding(3),
        "signature" / Const(b"NTFS    "),
        "bytes_per_sector" / Int16ul,
        "sectors_per_cluster" / Int8ul,
        Padding(26),
        "total_sectors" / Int64ul,
        "mft_cluster" / Int64ul,
        "mft_mirror_cluster" / Int64ul,
        "record_size" / Int8sl,
        Padding(3),
        "index_block_size" / Int8sl,
        Padding(3),
        "serial_number" / Bytes(8),
    )
)

WofReparsePoint = StructLayout(
    Struct(
        "tag" / Int32ul,
        "length" / Int16ul,
        Padding(2),
        "version" / Int32ul,
        "provider" / Int32ul,
        "provider_version" / Int32ul,
        "algorithm" / Int32ul,
    )
)
"""The reparse point of a file that the Windows overlay filter compressed: [MS-FSCC] 2.1.2.2,
then WOF_EXTERNAL_INFO and FILE_PROVIDER_EXTERNAL_INFO_V1 of wofapi.h."""

# Attribute types
ATTRIBUTE_LIST = 0x20
VOLUME_INFORMATION = 0x70
DATA = 0x80
INDEX_ROOT = 0x90
INDEX_ALLOCATION = 0xA0
REPARSE_POINT = 0xC0
END = 0xFFFFFFFF

# Attribute flags
COMPRESSED = 0x00FF
ENCRYPTED = 0x4000

# Record numbers of system files
VOLUME, ROOT, UPCASE = 3, 5, 10
FIRST_USER_RECORD = 16

# Index entry flags, file name spaces, file attributes
HAS_SUBNODE, IS_LAST = 1, 2
DOS_NAME = 2
IS_DIRECTORY = 0x10000000
WOF_REPARSE_TAG = 0x80000017
"""A file compressed by the Windows overlay filter (CompactOS); [MS-FSCC] 2.1.2.1."""

REPARSE_TAG_VARIANTS = 0xF000
"""The bits by which tags of one filter differ, where `REPARSE_TAGS` has it without them."""

REPARSE_TAGS = {
    0xA0000003: "a directory junction",
    0xA000000C: "a symbolic link",
    0xA000001D: "a symbolic link of WSL",
    0x8000001B: "an alias of an app",
    0xC0000004: "a file in hierarchical storage",
    0x80000006: "a file in hierarchical storage",
    0x80000007: "a file of single instance storage",
    0x80000008: "a file in a mounted WIM",
    0x80000013: "a deduplicated file",
    0x80000015: "a placeholder of cloud storage",
    0x80000018: "a file of a container's base image",
    0x90000018: "a file of a container's base image",
    0x8000001E: "a file of Azure File Sync",
    0x80000021: "a placeholder of OneDrive",
    0x9000001A: "a placeholder of cloud storage",
    0x9000001C: "a placeholder of a projected file system",
    0x90000024: "a file of a container's base image",
}
"""Reparse points of files whose data lies elsewhere; [MS-FSCC] 2.1.2.1."""

WOF_PROVIDER_WIM, WOF_PROVIDER_FILE = 1, 2
"""The provider of such a file's data: a WIM archive, or an alternate stream; wofapi.h."""
