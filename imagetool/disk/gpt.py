"""GUID partition tables (UEFI specification 2.10, section 5.3)."""

from __future__ import annotations

import zlib

from imagetool.contracts import Source
from imagetool.disk.declarations import Bytes, Const, Int32ul, Int64ul, Padding, Struct
from imagetool.disk.guid import guid_text
from imagetool.disk.partitions import Partition, PartitionTable
from imagetool.disk.struct_layout import StructLayout
from imagetool.errors import Corrupt

# Table 5-5, GPT Header
Header = StructLayout(
    Struct(
        "signature" / Const(b"EFI PART"),
        "revision" / Int32ul,
        "header_size" / Int32ul,
        "header_crc32" / Int32ul,
        Padding(4),
        "my_lba" / Int64ul,
        "alternate_lba" / Int64ul,
        "first_usable_lba" / Int64ul,
        "last_usable_lba" / Int64ul,
        "disk_guid" / Bytes(16),
        "partition_entry_lba" / Int64ul,
        "number_of_partition_entries" / Int32ul,
        "size_of_partition_entry" / Int32ul,
        "partition_entry_array_crc32" / Int32ul,
    )
)
HEADER_SIZE = 92

# Table 5-6, GPT Partition Entry
Entry = StructLayout(
    Struct(
        "type" / Bytes(16),
        "identifier" / Bytes(16),
        "first" / Int64ul,
        "last" / Int64ul,
        "attributes" / Int64ul,
        "label" / Bytes(72),
    )
)

_MIN_ARRAY_SIZE = 128 * 128  # bytes; the minimum that the specification reserves for the entries
_MAX_ARRAY_SIZE = 4 << 20
_UNUSED_ENTRY = bytes(16)

EFI_SYSTEM_PARTITION = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
TYPE_NAMES = {
    EFI_SYSTEM_PARTITION: "EFI system",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "basic data",
    "de94bba4-06d1-4d40-a16a-bfd50179d6ac": "Windows recovery",
    "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3": "dynamic disk metadata",
    "af9b60a0-1431-4f62-bc68-3311714a69ad": "dynamic disk data",
    "e75caf8f-f680-4cee-afa3-b001e56efc2d": "Storage Spaces",
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux file system",
    "e6d6d379-f507-44c2-a23c-238f2a3df928": "Linux LVM",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
}


def read_gpt(disk: Source, sector_size: int) -> PartitionTable | None:
    """Read the GPT of the disk; None if it has none for sectors of that size.

    The backup at the end of the disk is used if the primary one is damaged. Raises Corrupt if
    neither is valid.
    """
    head = disk.read_at(sector_size, sector_size + _MIN_ARRAY_SIZE)
    if head[:8] == b"EFI PART":
        table = _parse_table(disk, sector_size, 1, head)
        if table is not None:
            return table
    elif not _is_protective_mbr(disk.read_at(0, 512)):
        return None
    last = disk.size // sector_size - 1
    backup = disk.read_at(last * sector_size, sector_size)
    table = _parse_table(disk, sector_size, last, backup) if backup[:8] == b"EFI PART" else None
    if table is not None:
        warning = "the first partition table is damaged; the backup at the end of the disk is used"
        return table._replace(warnings=(warning, *table.warnings))
    if head[:8] == b"EFI PART":
        raise Corrupt(
            f"{disk.name}: the GUID partition table at offset {sector_size} has a wrong checksum, "
            "and there is no sound backup at the end of the disk",
            hint="The disk is truncated or damaged: compare it with its origin.",
        )
    return None


def _is_protective_mbr(sector: bytes) -> bool:
    return sector[510:512] == b"\x55\xaa" and 0xEE in sector[450:512:16]


def _parse_table(disk: Source, sector_size: int, lba: int, block: bytes) -> PartitionTable | None:
    """Parse the table whose header begins `block`; None if a checksum or a number is wrong."""
    if len(block) < HEADER_SIZE:
        return None
    header = Header.parse(block)
    count, size = header.number_of_partition_entries, header.size_of_partition_entry
    length = count * size
    if not HEADER_SIZE <= header.header_size <= sector_size or header.my_lba != lba:
        return None
    if zlib.crc32(block[:16] + bytes(4) + block[20 : header.header_size]) != header.header_crc32:
        return None
    if size < 128 or size % 8 or not 0 < length <= _MAX_ARRAY_SIZE:
        return None
    start = header.partition_entry_lba * sector_size
    # The entries nearly always follow the header, and have been read with it.
    entries = block[sector_size : sector_size + length] if header.partition_entry_lba == 2 else b""
    if lba != 1 or len(entries) < length:
        entries = disk.read_at(start, length)
    if len(entries) < length or zlib.crc32(entries) != header.partition_entry_array_crc32:
        return None
    partitions: list[Partition] = []
    for index in range(_used_entry_count(entries, size, count)):
        raw = entries[index * size : index * size + 128]
        if raw[:16] == _UNUSED_ENTRY:
            continue
        entry = Entry.parse(raw)
        offset, end = entry.first * sector_size, (entry.last + 1) * sector_size
        if not sector_size <= offset < end:
            raise Corrupt(
                f"{disk.name}: partition {index + 1} goes from sector {entry.first} to "
                f"{entry.last}",
                hint="The partition table is damaged: compare the image with its origin.",
            )
        kind = guid_text(entry.type)
        partitions.append(
            Partition(
                number=len(partitions) + 1,
                offset=offset,
                size=end - offset,
                type=kind,
                type_name=TYPE_NAMES.get(kind, ""),
                label=entry.label.decode("utf-16-le", "replace").split("\0")[0],
                identifier=guid_text(entry.identifier),
            )
        )
    guid = guid_text(header.disk_guid)
    last = max(header.alternate_lba, header.last_usable_lba)
    end = max([(last + 1) * sector_size, *(item.offset + item.size for item in partitions)])
    warnings: tuple[str, ...] = ()
    if end > disk.size:
        warnings = (
            f"{disk.name} is truncated: its partition table leads to byte {end}, and the disk has "
            f"{disk.size} bytes",
        )
    return PartitionTable("gpt", guid, sector_size, tuple(partitions), warnings)


def _used_entry_count(entries: bytes, size: int, count: int) -> int:
    """The number of entries to parse: trailing halves of the array that are zero are left out."""
    zeros = bytes(len(entries) // 2 + size)
    while count > 1:
        half = count // 2
        if entries[half * size : count * size] != zeros[: (count - half) * size]:
            break
        count = half
    return count
