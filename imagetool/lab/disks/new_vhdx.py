"""A new VHDX file ([MS-VHDX]): headers, region tables, an empty log, metadata, block table."""

from __future__ import annotations

import struct
from pathlib import Path
from uuid import UUID, uuid4

from google_crc32c import value as crc32c

from imagetool.disk.new_file import new_file
from imagetool.disk.vhdx import Vhdx
from imagetool.disk.vhdx import structs as s
from imagetool.lab.disks.shape import Shape

_LOG_OFFSET, _METADATA_OFFSET, _TABLE_OFFSET = s.MIB, 2 * s.MIB, 3 * s.MIB
_LOCATOR_TYPE = UUID("b04aefb7-d19e-4a81-b789-25b8e9445913").bytes_le
_IS_VIRTUAL_DISK = 2
_CREATOR = "imagetool's emulated host"


def write_vhdx(path: Path, shape: Shape, parent: tuple[Path, Vhdx] | None = None) -> None:
    """Write a new disk of zeros, or of its parent's content. Raises CannotWrite."""
    table, end = _table(shape)
    identifiers = uuid4().bytes_le + uuid4().bytes_le
    with new_file(path) as file:
        file.write(b"vhdxfile" + _CREATOR.encode("utf-16-le"))
        for number, offset in enumerate(s.HEADER_OFFSETS):
            file.seek(offset)
            file.write(_header(number, identifiers))
        regions = _regions(len(table))
        for offset in s.REGION_TABLE_OFFSETS:
            file.seek(offset)
            file.write(regions)
        file.seek(_METADATA_OFFSET)
        file.write(_metadata(shape, parent))
        file.seek(_TABLE_OFFSET)
        file.write(table)
        file.truncate(end)


def _sealed(block: bytearray) -> bytes:
    struct.pack_into("<I", block, 4, crc32c(bytes(block)))
    return bytes(block)


def _header(number: int, identifiers: bytes) -> bytes:
    """Return a header: 2.2.2. Of the two the one with the higher number counts."""
    block = bytearray(s.HEADER_SIZE)
    struct.pack_into("<4sIQ", block, 0, b"head", 0, number + 1)
    block[16:48] = identifiers
    struct.pack_into("<HHIQ", block, 64, 0, 1, s.MIB, _LOG_OFFSET)
    return _sealed(block)


def _regions(table_length: int) -> bytes:
    """Return the region table: 2.2.3."""
    block = bytearray(s.REGION_TABLE_SIZE)
    struct.pack_into("<4sII", block, 0, b"regi", 0, 2)
    struct.pack_into("<16sQII", block, 16, s.BAT_REGION, _TABLE_OFFSET, table_length, 1)
    struct.pack_into("<16sQII", block, 48, s.METADATA_REGION, _METADATA_OFFSET, s.MIB, 1)
    return _sealed(block)


def _metadata(shape: Shape, parent: tuple[Path, Vhdx] | None) -> bytes:
    """Return the metadata region: 2.6."""
    flags = (s.LEAVE_BLOCKS_ALLOCATED if shape.kind == "fixed" else 0) | (
        s.HAS_PARENT if parent is not None else 0
    )
    of_disk = s.IS_REQUIRED | _IS_VIRTUAL_DISK
    items = [
        (s.FILE_PARAMETERS, struct.pack("<II", shape.block_size, flags), s.IS_REQUIRED),
        (s.VIRTUAL_DISK_SIZE, struct.pack("<Q", shape.size), of_disk),
        (s.VIRTUAL_DISK_ID, (shape.identifier or uuid4()).bytes_le, of_disk),
        (s.LOGICAL_SECTOR_SIZE, struct.pack("<I", shape.sector_size), of_disk),
        (s.PHYSICAL_SECTOR_SIZE, struct.pack("<I", shape.physical_sector_size), of_disk),
    ]
    if parent is not None:
        items.append((s.PARENT_LOCATOR, _locator(*parent), s.IS_REQUIRED))
    region = bytearray(s.MIB)
    struct.pack_into("<8sHH", region, 0, b"metadata", 0, len(items))
    offset = s.METADATA_TABLE_SIZE
    for index, (item, data, flag) in enumerate(items, 1):
        struct.pack_into(
            "<16sIII", region, index * s.METADATA_ENTRY_SIZE, item, offset, len(data), flag
        )
        region[offset : offset + len(data)] = data
        offset += len(data)
    return bytes(region)


def _locator(path: Path, parent: Vhdx) -> bytes:
    """Return the parent locator: 2.6.2.6."""
    linkage = f"{{{UUID(bytes_le=parent.metadata.data_write_guid)}}}"
    pairs = {
        "parent_linkage": linkage,
        "relative_path": f".\\{path.name}",
        "absolute_win32_path": str(path),
    }
    head = struct.pack("<16sHH", _LOCATOR_TYPE, 0, len(pairs))
    entries, texts, offset = b"", b"", len(head) + 12 * len(pairs)
    for key, value in pairs.items():
        raw = [text.encode("utf-16-le", "surrogatepass") for text in (key, value)]
        offsets = (offset, offset + len(raw[0]))
        entries += struct.pack("<IIHH", *offsets, *map(len, raw))
        texts += b"".join(raw)
        offset += sum(map(len, raw))
    return head + entries + texts


def _table(shape: Shape) -> tuple[bytes, int]:
    """Return the block allocation table (2.5) and the end of the file."""
    ratio = (1 << 23) * shape.sector_size // shape.block_size
    blocks = -(-shape.size // shape.block_size)
    if shape.kind == "differencing":
        count = -(-blocks // ratio) * (ratio + 1)
    else:
        count = blocks + (blocks - 1) // ratio
    length = -(-8 * count // s.MIB) * s.MIB
    end = _TABLE_OFFSET + length
    table = bytearray(length)
    if shape.kind == "fixed":
        for block in range(blocks):
            entry = end + block * shape.block_size | s.FULLY_PRESENT
            struct.pack_into("<Q", table, 8 * (block + block // ratio), entry)
        end += blocks * shape.block_size
    return bytes(table), end
