"""A new VHD file (the specification of 2006): footer, and header and table of a dynamic one."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from uuid import uuid4

from imagetool.disk.new_file import new_file
from imagetool.disk.vhd import Vhd
from imagetool.disk.vhd import structs as s
from imagetool.lab.disks.shape import Shape

_EPOCH = 946_684_800
"""2000-01-01, in seconds since 1970."""
_TYPES = {"fixed": s.FIXED, "dynamic": s.DYNAMIC, "differencing": s.DIFFERENCING}
_HEADER_OFFSET = s.FOOTER_SIZE
_TABLE_OFFSET = _HEADER_OFFSET + s.HEADER_SIZE


def write_vhd(path: Path, shape: Shape, parent: tuple[Path, Vhd] | None = None) -> None:
    """Write a new disk of zeros, or of its parent's content. Raises CannotWrite."""
    footer = _footer(shape)
    with new_file(path) as file:
        if shape.kind == "fixed":
            file.truncate(shape.size)
            file.seek(shape.size)
            file.write(footer)
            return
        entries = -(-shape.size // shape.block_size)
        length = -(-4 * entries // s.SECTOR) * s.SECTOR
        names = _TABLE_OFFSET + length
        file.write(footer + _header(shape, entries, names, parent))
        file.write(b"\xff" * length)
        if parent is not None:
            file.write(_locator_data(parent[0]))
        file.write(footer)


def _checksum(block: bytearray) -> int:
    return ~sum(block) & 0xFFFFFFFF


def _footer(shape: Shape) -> bytes:
    """Return the footer: "Hard Disk Footer Format"."""
    block = bytearray(s.FOOTER_SIZE)
    struct.pack_into(
        ">8sIIQI4sI4sQQHBBI", block, 0,
        b"conectix", 2, 0x10000, (1 << 64) - 1 if shape.kind == "fixed" else _HEADER_OFFSET,
        max(0, int(time.time()) - _EPOCH), b"win ", 0xA0000, b"Wi2k", shape.size, shape.size,
        *_geometry(shape.size // s.SECTOR), _TYPES[shape.kind],
    )  # fmt: skip
    block[68:84] = (shape.identifier or uuid4()).bytes
    struct.pack_into(">I", block, 64, _checksum(block))
    return bytes(block)


def _geometry(sectors: int) -> tuple[int, int, int]:
    """Return cylinders, heads and sectors per track: "Appendix: CHS Calculation"."""
    sectors = min(sectors, 65535 * 16 * 255)
    if sectors >= 65535 * 16 * 63:
        per_track, heads = 255, 16
        tracks = sectors // per_track
    else:
        per_track = 17
        tracks = sectors // per_track
        heads = max((tracks + 1023) // 1024, 4)
        for wider in (31, 63):
            if tracks < heads * 1024 and heads <= 16:
                break
            per_track, heads = wider, 16
            tracks = sectors // per_track
    return tracks // heads, heads, per_track


def _header(shape: Shape, entries: int, names: int, parent: tuple[Path, Vhd] | None) -> bytes:
    """Return the header: "Dynamic Disk Header Format"."""
    block = bytearray(s.HEADER_SIZE)
    struct.pack_into(
        ">8sQQIII", block, 0,
        b"cxsparse", (1 << 64) - 1, _TABLE_OFFSET, 0x10000, entries, shape.block_size,
    )  # fmt: skip
    if parent is not None:
        path, disk = parent
        block[40:56] = disk.footer.unique_id
        struct.pack_into(">I", block, 56, disk.footer.time_stamp)
        name = path.name.encode("utf-16-be", "surrogatepass")[:510]
        block[64 : 64 + len(name)] = name
        length = len(_relative_name(path))
        struct.pack_into(">4sIIIQ", block, 576, b"W2ru", s.SECTOR, length, 0, names)
    struct.pack_into(">I", block, 36, _checksum(block))
    return bytes(block)


def _relative_name(path: Path) -> bytes:
    return f".\\{path.name}".encode("utf-16-le", "surrogatepass")[: s.SECTOR]


def _locator_data(path: Path) -> bytes:
    return _relative_name(path).ljust(s.SECTOR, b"\0")
