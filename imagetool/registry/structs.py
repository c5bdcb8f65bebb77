"""The base block of a hive.

Source: M. Suhanov, "Windows registry file format specification", section "Base block"; J. Metz,
"Windows NT Registry File (REGF) format specification", section 2. Cells are read thousands of
times and are unpacked with `struct` in cells.py, keys.py and values.py.
"""

from __future__ import annotations

import struct

from imagetool.disk.declarations import Bytes, Const, Int32ul, Int64ul, Padding, Struct
from imagetool.disk.struct_layout import StructLayout

BASE_BLOCK_SIZE = 4096

BaseBlock = StructLayout(
    Struct(
        "signature" / Const(b"regf"),
        "primary_sequence" / Int32ul,
        "secondary_sequence" / Int32ul,
        "last_written" / Int64ul,
        "major" / Int32ul,
        "minor" / Int32ul,
        "file_type" / Int32ul,
        "file_format" / Int32ul,
        "root_cell" / Int32ul,
        "bins_size" / Int32ul,
        "clustering_factor" / Int32ul,
        "file_name" / Bytes(64),
        Padding(396),
        "checksum" / Int32ul,
    )
)
"""The first 512 bytes; the rest of the page is reserved."""


def checksum(base_block: bytes | bytearray) -> int:
    """The exclusive or of the first 508 bytes as 32-bit words; never 0 or -1 (Suhanov)."""
    total = 0
    for word in struct.unpack_from("<127I", base_block):
        total ^= word
    return {0: 1, 0xFFFFFFFF: 0xFFFFFFFE}.get(total, total)


def is_valid_base_block(base_block: bytes) -> bool:
    """True for the first 512 bytes of a base block with a valid checksum."""
    return (
        len(base_block) == BaseBlock.size
        and base_block[:4] == b"regf"
        and int.from_bytes(base_block[508:], "little") == checksum(base_block)
    )
