"""The file version of a Windows program, from its version resource.

Microsoft, "PE Format", sections "COFF File Header", "Section Table", "The .rsrc Section"; winver.h,
VS_FIXEDFILEINFO. Only the headers, the branches of the resource tree that lead to the version and
the first bytes of the resource itself are read, whatever the size of the file.
"""

from __future__ import annotations

import struct

from imagetool.contracts import Source
from imagetool.package.identity import Version

_RT_VERSION = 16
_FIXED_FILE_INFO_SIGNATURE = b"\xbd\x04\xef\xfe"
_MAX_SECTIONS = 96
_HEADER_SIZE = 4096


def read_version(source: Source) -> Version | None:
    """Read the file version; None where the file has no sound version resource."""
    try:
        return _read_pe(source)
    except struct.error:
        return None


def is_windows_program(source: Source) -> bool:
    """True if the file begins as a program does: MZ, and where that points to, PE."""
    head = source.read_at(0, _HEADER_SIZE)
    pe = int.from_bytes(head[60:64], "little")
    if head[:2] != b"MZ" or pe >= source.size:
        return False
    return (head[pe : pe + 4] if pe + 4 <= len(head) else source.read_at(pe, 4)) == b"PE\0\0"


def _read_pe(source: Source) -> Version | None:
    head = source.read_at(0, _HEADER_SIZE)
    if head[:2] != b"MZ":
        return None
    (pe,) = struct.unpack_from("<I", head, 60)
    if pe > source.size or pe + 24 > _HEADER_SIZE:
        head = (
            head.ljust(pe, b"\0")[:pe] + source.read_at(pe, _HEADER_SIZE) if pe < 1 << 20 else b""
        )
    if head[pe : pe + 4] != b"PE\0\0":
        return None
    sections, optional_size = struct.unpack_from("<2xH12xH", head, pe + 4)
    optional = pe + 24
    (magic,) = struct.unpack_from("<H", head, optional)
    directories = optional + {0x10B: 96, 0x20B: 112}.get(magic, 0)
    if directories == optional or sections > _MAX_SECTIONS:
        return None
    (count,) = struct.unpack_from("<I", head, directories - 4)
    if count < 3:
        return None
    address, _ = struct.unpack_from("<II", head, directories + 16)
    table = head[optional + optional_size : optional + optional_size + 40 * sections]
    for index in range(len(table) // 40):
        size, start, raw_size, raw = struct.unpack_from("<IIII", table, 40 * index + 8)
        if start <= address < start + max(size, raw_size):
            return _read_from_resources(source, raw + address - start, raw - start)
    return None


def _read_from_resources(source: Source, root: int, shift: int) -> Version | None:
    """Follow type 16, the first name and the first language; RVA + `shift` is a file offset."""
    directory, leaf = root, 0
    for level in range(3):
        head = source.read_at(directory, 16)
        named, numbered = struct.unpack_from("<12xHH", head)
        entries = source.read_at(directory + 16, 8 * min(named + numbered, 4096))
        fitting = [
            offset
            for identifier, offset in struct.iter_unpack("<II", entries[: len(entries) & ~7])
            if level or identifier == _RT_VERSION
        ]
        if not fitting or bool(fitting[0] & 1 << 31) != (level < 2):
            return None
        leaf = root + (fitting[0] & 0x7FFFFFFF)
        directory = leaf
    address, size = struct.unpack_from("<II", source.read_at(leaf, 16))
    data = source.read_at(address + shift, min(size, 512)) if address + shift > 0 else b""
    position = data.find(_FIXED_FILE_INFO_SIGNATURE)
    if position < 0:
        return None
    high, low = struct.unpack_from("<II", data, position + 8)
    return Version.from_number(high << 32 | low)
