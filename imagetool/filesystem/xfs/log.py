"""The state of an XFS log: does it hold writes that are not in place?

"XFS Algorithms & Data Structures", 3rd edition, 14 "Journaling Log". Each basic block of the log
begins with the number of the cycle that wrote it, so the place where the number falls is the head.
The log is clean where the last record before the head says that the volume was unmounted.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from imagetool.contracts import Source

_BASIC_BLOCK = 512
_RECORD_MAGIC = 0xFEEDBABE
_UNMOUNT_FLAG = 0x20
_MAX_RECORD_BLOCKS = (256 << 10) // _BASIC_BLOCK + 16
_HEADER_CYCLES_SIZE = 32 << 10
_PROBES = 32
"""Blocks that are read at a time while the head is searched for."""


def is_clean(source: Source, offset: int, size: int) -> bool:
    """True if the log at `offset` of `size` bytes ends with the record of an unmount."""
    count = size // _BASIC_BLOCK
    if count < 2:
        return False
    head = _find_head(source, offset, count)
    # Of a log that was written to its end, the head is its first block again.
    first = head - min(_MAX_RECORD_BLOCKS, count)
    blocks = _read_blocks(source, offset, count, range(first, head))
    for number in range(len(blocks) - 1, -1, -1):
        if int.from_bytes(blocks[number][:4], "big") == _RECORD_MAGIC:
            return _is_unmount_record(blocks[number:])
    return False


def _cycle(block: bytes) -> int:
    first, second = struct.unpack_from(">II", block.ljust(8, b"\0"))
    return int(second if first == _RECORD_MAGIC else first)


def _find_head(source: Source, offset: int, count: int) -> int:
    """The number of the first block that another cycle wrote than the log's first block."""
    (block,) = _read_blocks(source, offset, count, [0])
    cycle = _cycle(block)
    low, high = 0, count  # blocks up to low are of this cycle, those from high on are not
    while high - low > 1:
        step = max(1, (high - low) // _PROBES)
        probes = range(low + step, high, step)
        blocks = _read_blocks(source, offset, count, probes)
        for probe, block in zip(probes, blocks, strict=True):
            if _cycle(block) != cycle:
                high = probe
                break
            low = probe
    return high


def _read_blocks(source: Source, offset: int, count: int, numbers: Sequence[int]) -> list[bytes]:
    """Basic blocks of the log; negative numbers count from its end."""
    ranges = [(offset + number % count * _BASIC_BLOCK, _BASIC_BLOCK) for number in numbers]
    return source.read_many(ranges)


def _is_unmount_record(blocks: Sequence[bytes]) -> bool:
    """True if a record, whose header is the first block, unmounts, and is the last one."""
    header = blocks[0]
    if len(header) < _BASIC_BLOCK:
        return False
    version, length = struct.unpack_from(">II", header, 8)
    (operations,) = struct.unpack_from(">I", header, 40)
    (size,) = struct.unpack_from(">I", header, 320)
    headers = max(1, -(-size // _HEADER_CYCLES_SIZE)) if version & 2 else 1
    end = headers + -(-length // _BASIC_BLOCK)
    if operations != 1 or end != len(blocks) or headers >= len(blocks):
        return False
    return len(blocks[headers]) > 9 and bool(blocks[headers][9] & _UNMOUNT_FLAG)
