"""The layout of a cabinet: [MS-CAB] "Cabinet File Format", sections 2.1 and 2.2."""

from __future__ import annotations

import struct

from imagetool.disk.declarations import Bytes, Const, Int8ul, Int16ul, Int32ul, Padding, Struct
from imagetool.disk.struct_layout import StructLayout

# 2.1 CFHEADER
Header = StructLayout(
    Struct(
        "signature" / Const(b"MSCF"),
        Padding(4),
        "cabinet_size" / Int32ul,
        Padding(4),
        "files_offset" / Int32ul,
        Padding(4),
        "version_minor" / Int8ul,
        "version_major" / Int8ul,
        "folder_count" / Int16ul,
        "file_count" / Int16ul,
        "flags" / Int16ul,
        "set_id" / Int16ul,
        "number_in_set" / Int16ul,
    )
)
HEADER_SIZE = 36
PREVIOUS_CABINET, NEXT_CABINET, RESERVE_PRESENT = 1, 2, 4

Reserves = StructLayout(Struct("header" / Int16ul, "folder" / Int8ul, "data" / Int8ul))
SignatureReserve = StructLayout(
    Struct("unknown" / Bytes(4), "offset" / Int32ul, "size" / Int32ul, "unused" / Bytes(8))
)
"""The 20 bytes that signing reserves in the header; learned from Microsoft's own packages."""

# 2.2 CFFOLDER
Folder = StructLayout(
    Struct("data_offset" / Int32ul, "block_count" / Int16ul, "compression" / Int16ul)
)
FOLDER_SIZE = 8
STORED, MSZIP, QUANTUM, LZX = 0, 1, 2, 3
METHOD_MASK = 0x0F

# 2.3 CFFILE and 2.4 CFDATA, of which there are thousands
FILE = struct.Struct("<IIHHHH")
NAME_IS_UTF8 = 0x80
FIRST_CONTINUED = 0xFFFD
CONTINUED_FROM_PREVIOUS, CONTINUED_TO_NEXT, CONTINUED_BOTH = 0xFFFD, 0xFFFE, 0xFFFF
"""Folder numbers with a meaning: the file continues in another cabinet of the set."""
DATA = struct.Struct("<IHH")
BLOCK_SIZE = 32768
