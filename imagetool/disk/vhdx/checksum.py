"""The checksum of VHDX structures ([MS-VHDX] 2.2.2): CRC-32C, its own field taken as zero."""

from __future__ import annotations

from google_crc32c import extend
from google_crc32c import value as _value


def checksum_fits(block: bytes) -> bool:
    """True if the CRC-32C at offset 4 is that of the block with these four bytes zero."""
    stored = int.from_bytes(block[4:8], "little")
    return int(extend(_value(block[:4] + bytes(4)), block[8:])) == stored
