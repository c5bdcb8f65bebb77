"""Descriptor tags and addresses of UDF.

Sources: ECMA-167 3/7.2 (tags), 3/7.1 and 4/7.1 (addresses), 4/14.14 (allocation descriptors).
"""

from __future__ import annotations

import struct
from binascii import crc_hqx
from typing import NamedTuple

from imagetool.contracts import Source
from imagetool.disk.source import read_exactly
from imagetool.package.disc.side import SECTOR, damaged

_SIZE = 16
_LENGTH_MASK = 0x3FFF_FFFF

ANCHOR, POINTER, PARTITION, LOGICAL_VOLUME, TERMINATING = 2, 3, 5, 6, 8
FILE_SET, FILE_IDENTIFIER, FILE_ENTRY, EXTENDED_ENTRY = 256, 257, 261, 266


class Address(NamedTuple):
    """A long allocation descriptor: where an extent lies (ECMA-167, 4/14.14.2)."""

    kind: int
    """0 recorded, 1 allocated but not recorded, 2 neither, 3 more descriptors."""
    length: int
    block: int
    partition: int
    """The index of a partition map."""

    @classmethod
    def parse(cls, data: bytes, offset: int) -> Address:
        """Parse one of 16 bytes at `offset`."""
        length, block, partition = struct.unpack_from("<IIH", data, offset)
        return cls(length >> 30, length & _LENGTH_MASK, block, partition)

    @classmethod
    def parse_short(cls, data: bytes, offset: int, partition: int) -> Address:
        """Parse a short one of 8 bytes, in the partition that it lies in (4/14.14.1)."""
        length, block = struct.unpack_from("<II", data, offset)
        return cls(length >> 30, length & _LENGTH_MASK, block, partition)


def identify(data: bytes) -> int:
    """Return the tag's identifier; 0 if the tag or what it covers is damaged."""
    if len(data) < _SIZE or (sum(data[:4]) + sum(data[5:_SIZE])) & 0xFF != data[4]:
        return 0
    identifier, crc, length = struct.unpack_from("<H6xHH", data)
    if length > len(data) - _SIZE or crc_hqx(data[_SIZE : _SIZE + length], 0) != crc:
        return 0
    return int(identifier)


def read_descriptor(source: Source, offset: int, wanted: tuple[int, ...], what: str) -> bytes:
    """Read the descriptor in a sector. Raises Corrupt unless its tag is one of `wanted`."""
    source.budget.spend(source.name, 1)
    data = read_exactly(source, offset, SECTOR, what)
    if identify(data) not in wanted:
        raise damaged(source.name, f"UDF's {what} is not at offset {offset}")
    return data
