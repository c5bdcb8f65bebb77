"""Master boot records and their chain of extended partitions (UEFI specification 2.10, 5.2)."""

from __future__ import annotations

import struct

from imagetool.contracts import Source
from imagetool.disk.partitions import Partition, PartitionTable
from imagetool.errors import Corrupt

_ENTRY = struct.Struct("<B3xB3xII")
_EXTENDED_TYPES = (0x05, 0x0F, 0x85)
_PROTECTIVE = 0xEE
_MAX_LOGICAL_PARTITIONS = 128

TYPE_NAMES = {
    0x01: "FAT12", 0x04: "FAT16", 0x05: "extended", 0x06: "FAT16", 0x07: "NTFS or exFAT",
    0x0B: "FAT32", 0x0C: "FAT32", 0x0E: "FAT16", 0x0F: "extended", 0x27: "Windows recovery",
    0x42: "dynamic disk", 0x82: "Linux swap", 0x83: "Linux file system", 0x85: "extended",
    0x8E: "Linux LVM", 0xEE: "GPT protective", 0xEF: "EFI system",
}  # fmt: skip


def read_mbr(disk: Source, sector_size: int) -> PartitionTable | None:
    """Read the MBR of the disk; None if the first sector has none, or begins a volume.

    Raises Corrupt for an extended partition whose chain leads back to itself or beyond the disk.
    """
    sector = disk.read_at(0, 512)
    primary = _parse_entries(sector)
    if primary is None or not _is_table(disk, sector, primary, sector_size):
        return None
    found: list[tuple[int, int, int]] = []
    for kind, start, count in primary:
        if kind in _EXTENDED_TYPES:
            found.extend(_read_logical_partitions(disk, start, count, sector_size))
        elif kind and count:
            found.append((kind, start, count))
    partitions = tuple(
        Partition(
            number=number,
            offset=start * sector_size,
            size=count * sector_size,
            type=f"{kind:02x}",
            type_name=TYPE_NAMES.get(kind, ""),
            label="",
            identifier="",
        )
        for number, (kind, start, count) in enumerate(found, 1)
    )
    # A protective entry may claim more than there is.
    ends = [start + count for kind, start, count in primary if kind not in (0, _PROTECTIVE)]
    end = max(ends, default=0) * sector_size
    warnings: tuple[str, ...] = ()
    if end > disk.size:
        warnings = (
            f"{disk.name} is truncated: its partitions end at {end}, and the disk has "
            f"{disk.size} bytes",
        )
    signature = f"{int.from_bytes(sector[440:444], 'little'):08x}"
    return PartitionTable("mbr", signature, sector_size, partitions, warnings)


def _parse_entries(sector: bytes) -> list[tuple[int, int, int]] | None:
    if len(sector) < 512 or sector[510:512] != b"\x55\xaa":
        return None
    return [_ENTRY.unpack_from(sector, 446 + 16 * index)[1:] for index in range(4)]


def _is_table(
    disk: Source, sector: bytes, entries: list[tuple[int, int, int]], sector_size: int
) -> bool:
    """True if the four entries can be partitions: volume boot sectors end in 55 AA as well."""
    if sector[3:11] in (b"NTFS    ", b"-FVE-FS-", b"EXFAT   ", b"ReFS\0\0\0\0"):
        return False
    if any(sector[446 + 16 * index] not in (0, 0x80) for index in range(4)):
        return False
    used = [entry for entry in entries if entry[0]]
    if not used or any(not start or not count for _, start, count in used):
        return False
    # With sectors of the wrong size the first partition would lie beyond the disk.
    return min(start for _, start, _ in used) * sector_size < disk.size and (
        sector_size != 512 or not _has_4096_byte_sectors(disk, used)
    )


def _has_4096_byte_sectors(disk: Source, used: list[tuple[int, int, int]]) -> bool:
    """True if extended boot records are found only for sectors of 4,096 bytes."""
    for kind, start, _ in used:
        offsets = (start * 512 + 510, start * 4096 + 510)
        small, large = disk.read_many([(offset, 2) for offset in offsets])
        if kind in _EXTENDED_TYPES and large == b"\x55\xaa" != small:
            return True
    return False


def _read_logical_partitions(
    disk: Source, first: int, count: int, sector_size: int
) -> list[tuple[int, int, int]]:
    found: list[tuple[int, int, int]] = []
    seen: set[int] = set()
    sector = first
    while True:
        if sector in seen or len(seen) > _MAX_LOGICAL_PARTITIONS:
            raise Corrupt(
                f"{disk.name}: the chain of extended partitions leads back to sector {sector}, or "
                f"is longer than {_MAX_LOGICAL_PARTITIONS}",
                hint="The partition table is damaged: compare the image with its origin.",
            )
        seen.add(sector)
        entries = _parse_entries(disk.read_at(sector * sector_size, 512))
        if entries is None:
            raise Corrupt(
                f"{disk.name}: no extended boot record at sector {sector} (offset "
                f"{sector * sector_size})",
                hint="The disk is truncated or damaged: compare it with its origin.",
            )
        kind, start, length = entries[0]
        if kind and length:
            found.append((kind, sector + start, length))
        kind, start, length = entries[1]
        if kind not in _EXTENDED_TYPES or not length:
            return found
        sector = first + start
