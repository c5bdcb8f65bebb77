"""A new identity for a disk, as Windows gives one to a disk that collides with another.

The disk identifier of a GUID partition table (UEFI specification, 5.3.2), or the signature of a
master boot record.
"""

from __future__ import annotations

import secrets
import struct
import zlib
from pathlib import Path
from uuid import uuid4

from imagetool.lab.disks.writable import WritableDisk

_SIGNATURE_OFFSET = 0x1B8
_SECTOR_SIZES = (512, 4096)
_CHECKSUM_OFFSET, _ALTERNATE_OFFSET, _IDENTIFIER_OFFSET = 16, 32, 56
_HEADER_SIZE = 92


def give_new_identity(path: Path, scheme: str) -> None:
    """Give a mounted disk another identifier; `scheme` is that of its partition table.

    Raises Unsupported, CannotOpen.
    """
    with WritableDisk(path, locked=True) as disk:
        if scheme == "mbr":
            disk.write_at(_SIGNATURE_OFFSET, secrets.token_bytes(4))
        elif scheme == "gpt":
            _renew_table(disk, uuid4().bytes_le)


def _renew_table(disk: WritableDisk, identifier: bytes) -> None:
    for sector_size in _SECTOR_SIZES:
        header = disk.read_at(sector_size, _HEADER_SIZE)
        if header[:8] != b"EFI PART":
            continue
        (alternate,) = struct.unpack_from("<Q", header, _ALTERNATE_OFFSET)
        for offset in (sector_size, alternate * sector_size):
            renewed = bytearray(disk.read_at(offset, _HEADER_SIZE))
            if renewed[:8] != b"EFI PART":
                continue
            renewed[_IDENTIFIER_OFFSET : _IDENTIFIER_OFFSET + 16] = identifier
            struct.pack_into("<I", renewed, _CHECKSUM_OFFSET, 0)
            struct.pack_into("<I", renewed, _CHECKSUM_OFFSET, zlib.crc32(renewed))
            disk.write_at(offset, bytes(renewed))
        return
