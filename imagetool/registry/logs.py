"""Transaction logs of a hive, replayed in memory.

Suhanov, "Format of transaction log files": the logs of a dirty hive are replayed as Windows does,
on a PatchedSource and never on the file. Old logs (Windows XP to 8) hold one set of
dirty pages of 512 bytes behind a bitmap, new ones (8.1 and later) a series of log entries, each
with two Marvin32 hashes. A log ends at the first entry whose hash, sequence or size is wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from imagetool.contracts import Source
from imagetool.disk.patched_source import PatchedSource
from imagetool.registry.structs import BASE_BLOCK_SIZE, checksum, is_valid_base_block

SECTOR = 512
_MAX_LOG_SIZE = 16 << 20  # hashing takes a second for five megabytes
_HASHED_BYTES_PER_OBJECT = 64
"""Hashing costs as much time as making objects."""
_ENTRY = struct.Struct("<4s5IQQ")
_ENTRY_SIZE = 40
_MAX_BINS_SIZE = 1 << 31
_MARVIN_SEED = 0x82EF4D887A4E55C5
_BASE_BLOCK = struct.Struct("<4sIIQIIIIII")  # the base block up to the size of the hive bins


@dataclass(frozen=True, slots=True)
class RecoveredHive:
    """A hive with its transaction logs replayed."""

    source: PatchedSource
    base_block: bytes
    """Its first 512 bytes, taken from the log if the hive's own are damaged."""
    sequence: int
    """The sequence number of the last write that was replayed."""


def recover(hive: Source, base_block: bytes, logs: Sequence[Source]) -> RecoveredHive | None:
    """Replay the logs of a hive; None if no log is usable.

    `base_block` is the hive's own; if its checksum is wrong, that of a valid log is used.
    """
    usable = [log for log in map(_Log.open, logs) if log is not None]
    if not usable:
        return None
    if not is_valid_base_block(base_block):
        base_block = usable[0].base_block
    last_sequence = _BASE_BLOCK.unpack_from(base_block)[2]
    bins = _BASE_BLOCK.unpack_from(base_block)[9]
    sectors: dict[int, bytes] = {}
    replayed = False
    # Two logs of the new format are written alternately: the older one is replayed first.
    for log in sorted(usable, key=lambda log: log.sequence):
        entries = log.entries()
        for entry in entries:
            if entry.sequence < last_sequence or (replayed and entry.sequence != last_sequence + 1):
                if replayed:
                    break
                continue
            sectors.update(entry.sectors)
            bins, last_sequence, replayed = entry.bins_size, entry.sequence, True
    if not replayed:
        return None
    head = bytearray(base_block)
    struct.pack_into("<II", head, 4, last_sequence, last_sequence)
    struct.pack_into("<I", head, 28, 0)
    struct.pack_into("<I", head, 40, bins)
    struct.pack_into("<I", head, 508, checksum(head))
    size = max(hive.size, BASE_BLOCK_SIZE + bins)
    return RecoveredHive(PatchedSource(hive, size, sectors, SECTOR), bytes(head), last_sequence)


@dataclass(frozen=True, slots=True)
class _HiveLogEntry:
    sequence: int
    bins_size: int
    sectors: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class _Log:
    source: Source
    base_block: bytes
    data: bytes
    sequence: int
    bins_size: int

    @classmethod
    def open(cls, source: Source) -> _Log | None:
        head = source.read_at(0, SECTOR)
        if not is_valid_base_block(head) or source.size > _MAX_LOG_SIZE:
            return None
        fields = _BASE_BLOCK.unpack_from(head)
        if fields[1] != fields[2] or fields[9] % 4096 or fields[9] > _MAX_BINS_SIZE:
            return None
        return cls(source, head, source.read_at(0, source.size), fields[1], fields[9])

    def entries(self) -> list[_HiveLogEntry]:
        if self.data[SECTOR : SECTOR + 4] == b"DIRT":
            entry = self._dirty_pages()
            return [entry] if entry else []
        entries: list[_HiveLogEntry] = []
        offset = SECTOR
        while entry := self._parse_entry(offset):
            if entries and entry.sequence != entries[-1].sequence + 1:
                break
            entries.append(entry)
            offset += _ENTRY.unpack_from(self.data, offset)[1]
        return entries

    def _dirty_pages(self) -> _HiveLogEntry | None:
        """Parse the old format: a bit for each sector of the bins, then the dirty sectors."""
        bitmap = self.data[SECTOR + 4 : SECTOR + 4 + self.bins_size // 4096]
        dirty = [
            byte * 8 + bit
            for byte, bits in enumerate(bitmap)
            for bit in range(8)
            if bits >> bit & 1
        ]
        page_offset = -(-(SECTOR + 4 + len(bitmap)) // SECTOR) * SECTOR
        if (
            len(bitmap) * 4096 != self.bins_size
            or len(self.data) < page_offset + len(dirty) * SECTOR
        ):
            return None
        first = BASE_BLOCK_SIZE // SECTOR
        sectors = {
            first + sector: self.data[
                page_offset + index * SECTOR : page_offset + (index + 1) * SECTOR
            ]
            for index, sector in enumerate(dirty)
        }
        return _HiveLogEntry(self.sequence, self.bins_size, sectors)

    def _parse_entry(self, offset: int) -> _HiveLogEntry | None:
        """Parse the new format's log entry at `offset`; None if there is no valid one."""
        data = self.data
        if len(data) - offset < _ENTRY_SIZE:
            return None
        signature, size, _, sequence, bins, count, hash1, hash2 = _ENTRY.unpack_from(data, offset)
        page_offset = offset + _ENTRY_SIZE + 8 * count
        end = offset + size
        if (
            signature != b"HvLE"
            or not size
            or size % SECTOR
            or end > len(data)
            or page_offset > end
        ):
            return None
        self.source.budget.spend(self.source.name, size // _HASHED_BYTES_PER_OBJECT)
        if bins % 4096 or bins > _MAX_BINS_SIZE or marvin32(data[offset : offset + 32]) != hash2:
            return None
        if marvin32(data[offset + _ENTRY_SIZE : end]) != hash1:
            return None
        sectors: dict[int, bytes] = {}
        references = struct.unpack_from(f"<{2 * count}I", data, offset + _ENTRY_SIZE)
        for start, length in zip(references[::2], references[1::2], strict=True):
            if (
                start % SECTOR
                or length % SECTOR
                or page_offset + length > end
                or start + length > bins
            ):
                return None
            for part in range(0, length, SECTOR):
                number = (BASE_BLOCK_SIZE + start + part) // SECTOR
                sectors[number] = data[page_offset + part : page_offset + part + SECTOR]
            page_offset += length
        return _HiveLogEntry(sequence, bins, sectors)


def marvin32(data: bytes, seed: int = _MARVIN_SEED) -> int:
    """Compute the 64-bit Marvin32 hash; the length is a multiple of four (Suhanov, "Hash-1")."""
    mask = 0xFFFFFFFF
    low, high = seed & mask, seed >> 32
    # The end marker and one more round are two further words.
    for word in chain(_words(data), (0x80, 0)):
        low = (low + word) & mask
        high ^= low
        low = ((low << 20 | low >> 12) + high) & mask
        high = ((high << 9 | high >> 23) & mask) ^ low
        low = ((low << 27 | low >> 5) + high) & mask
        high = (high << 19 | high >> 13) & mask
    return high << 32 | low


def _words(data: bytes) -> Iterator[int]:
    return (word for (word,) in struct.iter_unpack("<I", data))
