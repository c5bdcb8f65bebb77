"""The log of a VHDX, replayed in memory ([MS-VHDX] 2.3).

In a disk that was not closed cleanly, writes to its metadata may be in the log only. The active
sequence of log entries is found as the specification requires, and applied to a PatchedSource,
never to the file; entries of another log, torn ones and those before the tail are stale and are
ignored.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from imagetool.contracts import Range, Source
from imagetool.disk.patched_source import PatchedSource
from imagetool.disk.source import read_exactly
from imagetool.disk.vhdx.checksum import checksum_fits
from imagetool.errors import Corrupt, Unsupported

SECTOR = 4096
_ENTRY = struct.Struct("<4sIIIQI4x16sQQ")
_DESCRIPTOR = struct.Struct("<4s4sQQQ")
_MAX_LOG_SIZE = 16 << 20
_DAMAGED = "Mount the disk once on a Hyper-V host, or restore it from a backup."


@dataclass(frozen=True, slots=True)
class _LogEntry:
    """A valid log entry: its position in the log, and its writes to the file."""

    offset: int
    length: int
    tail: int
    sequence: int
    flushed_file_offset: int
    last_file_offset: int
    data_sectors: tuple[tuple[int, bytes], ...]
    zeros: tuple[Range, ...]


def replay(source: Source, guid: bytes, offset: int, length: int) -> tuple[Source, int]:
    """Return the file with its log replayed, and the sequence number of the last entry.

    `guid`, `offset` and `length` are those of the current header. Raises Corrupt if the log has
    no active sequence or the file is shorter than when the log was written, Unsupported for a log
    above 16 MiB (Windows writes 1 MiB).
    """
    if length > _MAX_LOG_SIZE:
        raise Unsupported(f"{source.name}: a log of {length >> 20} MiB is not replayed")
    if not length or offset % (1 << 20) or length % (1 << 20):
        raise Corrupt(
            f"{source.name}: the log at offset {offset} has {length} bytes", hint=_DAMAGED
        )
    log = read_exactly(source, offset, length, "the log")
    active = _active_sequence(log, guid)
    if not active:
        raise Corrupt(
            f"{source.name}: the header says that the log (offset {offset}) must be replayed, and "
            "it holds no sound sequence of entries",
            hint=_DAMAGED,
        )
    head = active[-1]
    if head.flushed_file_offset > source.size:
        raise Corrupt(
            f"{source.name}: the file has {source.size} bytes, and had "
            f"{head.flushed_file_offset} when the log was written",
            hint="The image is truncated: compare it with its origin.",
        )
    sectors: dict[int, bytes] = {}
    zeros: list[Range] = []
    for entry in active:
        source.budget.spend(source.name, len(entry.zeros) * (1 + len(sectors) // 64))
        for start, count in entry.zeros:
            zeros.append((start, count))
            for sector in [s for s in sectors if start <= s * SECTOR < start + count]:
                del sectors[sector]
        sectors.update((file_offset // SECTOR, data) for file_offset, data in entry.data_sectors)
    size = max(source.size, head.last_file_offset)
    return PatchedSource(source, size, sectors, SECTOR, zeros), head.sequence


def _active_sequence(log: bytes, guid: bytes) -> list[_LogEntry]:
    """Find the entries from the tail to the head of the newest valid sequence (2.3.3)."""
    entries: dict[int, _LogEntry] = {}
    # Entries do not overlap, so their checksums take one pass over the log; damage may take two.
    budget = 2 * len(log)
    for offset in range(0, len(log), SECTOR):
        if log[offset : offset + 4] == b"loge":
            budget -= int.from_bytes(log[offset + 8 : offset + 12], "little")
            entry = _parse_entry(log, offset, guid) if budget >= 0 else None
            if entry is not None:
                entries[offset] = entry
    following = {
        offset: after
        for offset, entry in entries.items()
        if (after := entries.get((offset + entry.length) % len(log))) is not None
        and after.sequence == entry.sequence + 1
    }
    best: list[_LogEntry] = []
    continued = {entry.offset for entry in following.values()}
    for start in entries.keys() - continued:
        sequence = [entries[start]]
        while sequence[-1].offset in following:
            sequence.append(following[sequence[-1].offset])
        tails = [i for i, entry in enumerate(sequence) if entry.offset == sequence[-1].tail]
        if tails and (not best or sequence[-1].sequence > best[-1].sequence):
            best = sequence[tails[0] :]
    return best


def _parse_entry(log: bytes, offset: int, guid: bytes) -> _LogEntry | None:
    """Parse the log entry at `offset`; None if it is invalid, or of another log."""
    fields = _ENTRY.unpack_from(log, offset)
    _, _, length, tail, sequence, count, log_guid, flushed, last = fields
    if log_guid != guid or not sequence or not 0 < length <= len(log) or length % SECTOR:
        return None
    entry = log[offset : offset + length]
    entry += log[: length - len(entry)]  # it may wrap around the log's end
    descriptors_end = -(-(_ENTRY.size + count * _DESCRIPTOR.size) // SECTOR) * SECTOR
    if descriptors_end > length or not checksum_fits(entry):
        return None
    data: list[tuple[int, bytes]] = []
    zeros: list[Range] = []
    sector = descriptors_end
    for index in range(count):
        kind, trailing, leading, file_offset, number = _DESCRIPTOR.unpack_from(
            entry, _ENTRY.size + index * _DESCRIPTOR.size
        )
        if number != sequence or file_offset % SECTOR:
            return None
        if kind == b"zero":
            if leading % SECTOR:
                return None
            zeros.append((file_offset, leading))
        elif kind == b"desc":
            block = entry[sector : sector + SECTOR]
            high, low = block[4:8], block[4092:]
            if len(block) < SECTOR or block[:4] != b"data":
                return None
            if int.from_bytes(low + high, "little") != sequence:
                return None
            data.append((file_offset, leading.to_bytes(8, "little") + block[8:4092] + trailing))
            sector += SECTOR
        else:
            return None
    return _LogEntry(offset, length, tail, sequence, flushed, last, tuple(data), tuple(zeros))
