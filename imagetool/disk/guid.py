"""GUIDs as Windows stores them: the first three groups little-endian ([MS-DTYP] 2.3.4.2)."""

from __future__ import annotations

import struct

_GROUPS = struct.Struct("<IHH8s")


def guid_text(stored: bytes) -> str:
    """Format 16 stored bytes as the text of a GUID, in lower case."""
    first, second, third, rest = _GROUPS.unpack(stored)
    tail = rest.hex()
    return f"{first:08x}-{second:04x}-{third:04x}-{tail[:4]}-{tail[4:]}"
