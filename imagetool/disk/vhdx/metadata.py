"""The headers, region tables and metadata items of a VHDX file ([MS-VHDX] 2.2, 2.6).

Every checksum is verified and every offset is checked against the file. Of the two headers the one
with a valid checksum and the highest sequence number is current; of the two region tables the
first valid one is used.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from imagetool.contracts import Range, Source
from imagetool.disk.declarations import ConstructError
from imagetool.disk.guid import guid_text
from imagetool.disk.source import read_exactly
from imagetool.disk.vhdx import structs as s
from imagetool.disk.vhdx.checksum import checksum_fits
from imagetool.errors import Corrupt, Unsupported

_DAMAGED = "The image is damaged: compare it with its origin, or restore a backup."
_MAX_DISK_SIZE = 64 << 40


class VhdxMetadata(NamedTuple):
    """The fields of the headers, regions and metadata items; sizes and offsets in bytes.

    GUIDs are as stored, little-endian.
    """

    file_write_guid: bytes
    data_write_guid: bytes
    log_guid: bytes
    log_offset: int
    log_length: int
    bat_offset: int
    bat_length: int
    block_size: int
    leave_blocks_allocated: bool
    has_parent: bool
    parent_locator: Range | None
    """The range of the parent locator in the file; differencing disks only."""
    disk_size: int
    disk_id: bytes
    logical_sector_size: int
    physical_sector_size: int


def read_header(source: Source) -> Any:
    """Read the current header. Raises Corrupt, or Unsupported for another version."""
    return _current_header(
        source, source.read_many([(offset, s.HEADER_SIZE) for offset in s.HEADER_OFFSETS])
    )


def read_metadata(source: Source, header: Any) -> VhdxMetadata:
    """Read regions and metadata items. Raises Corrupt, or Unsupported for unknown required ones.

    `source` is the file with its log replayed if `header` names one.
    """
    regions = _read_region_table(source)
    bat, metadata = regions[s.BAT_REGION], regions[s.METADATA_REGION]
    items, locator = _read_items(source, *metadata)
    block_size, flags = items[s.FILE_PARAMETERS] & 0xFFFFFFFF, items[s.FILE_PARAMETERS] >> 32
    disk_size, sector = items[s.VIRTUAL_DISK_SIZE], items[s.LOGICAL_SECTOR_SIZE]
    physical = items[s.PHYSICAL_SECTOR_SIZE]

    def damaged(what: str) -> Corrupt:
        return Corrupt(f"{source.name}: metadata: {what}", hint=_DAMAGED)

    if block_size & (block_size - 1) or not s.MIB <= block_size <= 256 * s.MIB:
        raise damaged(f"a block size of {block_size} bytes is none between 1 and 256 MiB")
    if sector not in (512, 4096) or physical not in (512, 4096):
        raise damaged(f"sector sizes of {sector} and {physical} bytes are not 512 or 4096")
    if not 0 < disk_size <= _MAX_DISK_SIZE or disk_size % sector:
        raise damaged(f"a disk of {disk_size} bytes is empty, above 64 TiB, or no whole sectors")
    return VhdxMetadata(
        file_write_guid=header.file_write_guid,
        data_write_guid=header.data_write_guid,
        log_guid=header.log_guid,
        log_offset=header.log_offset,
        log_length=header.log_length,
        bat_offset=bat[0],
        bat_length=bat[1],
        block_size=block_size,
        leave_blocks_allocated=bool(flags & s.LEAVE_BLOCKS_ALLOCATED),
        has_parent=bool(flags & s.HAS_PARENT),
        parent_locator=locator,
        disk_size=disk_size,
        disk_id=items[s.VIRTUAL_DISK_ID].to_bytes(16, "little"),
        logical_sector_size=sector,
        physical_sector_size=physical,
    )


def _current_header(source: Source, blocks: list[bytes]) -> Any:
    """Parse the header with the highest sequence number of those with a valid checksum."""
    sound = [
        block
        for block in blocks
        if len(block) == s.HEADER_SIZE and block[:4] == b"head" and checksum_fits(block)
    ]
    if not sound:
        raise Corrupt(
            f"{source.name}: neither header (offsets 65536 and 131072) has a right checksum",
            hint=_DAMAGED,
        )
    header = s.Header.parse(max(sound, key=lambda block: int.from_bytes(block[8:16], "little")))
    if header.version != 1:
        raise Unsupported(
            f"{source.name}: VHDX version {header.version} is not read, only version 1",
            hint="Convert it on its host: Convert-VHD writes version 1.",
        )
    return header


def _read_region_table(source: Source) -> dict[bytes, tuple[int, int]]:
    for offset in s.REGION_TABLE_OFFSETS:
        block = source.read_at(offset, s.REGION_TABLE_SIZE)
        if len(block) != s.REGION_TABLE_SIZE or block[:4] != b"regi" or not checksum_fits(block):
            continue
        count = s.RegionTableHead.parse(block).entry_count
        if count <= s.MAX_ENTRIES:
            entries = s.RegionEntry.parse_all(block, s.RegionTableHead.size, count)
            return _check_regions(source, entries)
    raise Corrupt(
        f"{source.name}: neither region table (offsets 196608 and 262144) is sound", hint=_DAMAGED
    )


def _check_regions(source: Source, entries: Iterable[Any]) -> dict[bytes, tuple[int, int]]:
    regions: dict[bytes, tuple[int, int]] = {}
    for entry in entries:
        guid: bytes = entry.guid
        region = (int(entry.offset), int(entry.length))
        if guid not in (s.BAT_REGION, s.METADATA_REGION):
            if entry.required & 1:
                raise Unsupported(
                    f"{source.name}: the region {guid_text(guid)} is required and unknown",
                    hint="A newer Windows wrote this disk: Convert-VHD there may help.",
                )
            continue
        if guid in regions or region[0] % s.MIB or region[1] % s.MIB or region[0] < s.MIB:
            raise Corrupt(
                f"{source.name}: the region {guid_text(guid)} appears twice or is not "
                f"aligned (offset {region[0]}, length {region[1]})",
                hint=_DAMAGED,
            )
        regions[guid] = region
    for guid, name in ((s.BAT_REGION, "block allocation table"), (s.METADATA_REGION, "metadata")):
        offset, length = regions.get(guid, (0, 0))
        if not length or offset + length > source.size:
            raise Corrupt(
                f"{source.name}: the region of the {name} is missing or ends beyond the file "
                f"(offset {offset}, length {length}, file {source.size})",
                hint="The image is truncated or damaged: compare it with its origin.",
            )
    (first, length), (second, _) = sorted(regions.values())
    if first + length > second:
        raise Corrupt(f"{source.name}: regions overlap at offset {second}", hint=_DAMAGED)
    return regions


_ITEM_LENGTHS = {
    s.FILE_PARAMETERS: 8,
    s.VIRTUAL_DISK_SIZE: 8,
    s.VIRTUAL_DISK_ID: 16,
    s.LOGICAL_SECTOR_SIZE: 4,
    s.PHYSICAL_SECTOR_SIZE: 4,
}


def _read_items(
    source: Source, region: int, region_length: int
) -> tuple[dict[bytes, int], Range | None]:
    """Read the known items as little-endian numbers, and the range of the parent locator."""
    # Nearly every table has six entries or fewer: more of its 64 KiB is read only if needed.
    block = read_exactly(source, region, 4096, "the metadata table")
    try:
        count = s.MetadataHead.parse(block).entry_count
        if count > s.MAX_ENTRIES:
            raise Corrupt(f"{source.name}: a metadata table of {count} entries", hint=_DAMAGED)
        if (count + 1) * s.METADATA_ENTRY_SIZE > len(block):
            block = read_exactly(source, region, s.METADATA_TABLE_SIZE, "the metadata table")
        entries = list(s.MetadataEntry.parse_all(block, s.METADATA_ENTRY_SIZE, count))
    except ConstructError:
        raise Corrupt(
            f"{source.name}: the metadata table at offset {region} is damaged", hint=_DAMAGED
        ) from None
    ranges: dict[bytes, tuple[int, int]] = {}
    locator: Range | None = None
    for entry in entries:
        if entry.item == s.PARENT_LOCATOR:
            if entry.offset < s.METADATA_TABLE_SIZE or entry.offset + entry.length > region_length:
                raise Corrupt(f"{source.name}: the parent locator lies outside", hint=_DAMAGED)
            locator = (region + entry.offset, entry.length)
            continue
        known = _ITEM_LENGTHS.get(entry.item)
        if known is None:
            if entry.flags & s.IS_REQUIRED:
                item = guid_text(entry.item)
                raise Unsupported(
                    f"{source.name}: the metadata item {item} is required and unknown",
                    hint="A newer Windows wrote this disk: Convert-VHD there may help.",
                )
            continue
        outside = entry.offset < s.METADATA_TABLE_SIZE or entry.offset + known > region_length
        if entry.item in ranges or entry.length != known or outside:
            raise Corrupt(
                f"{source.name}: metadata item {guid_text(entry.item)} appears twice, or "
                f"cannot lie at offset {region + entry.offset} with {entry.length} bytes",
                hint=_DAMAGED,
            )
        ranges[entry.item] = (region + entry.offset, known)
    missing = [guid_text(guid) for guid in _ITEM_LENGTHS if guid not in ranges]
    if missing:
        raise Corrupt(f"{source.name}: metadata item {missing[0]} is missing", hint=_DAMAGED)
    values = source.read_many(list(ranges.values()))
    items = {
        guid: int.from_bytes(value, "little") for guid, value in zip(ranges, values, strict=True)
    }
    return items, locator
