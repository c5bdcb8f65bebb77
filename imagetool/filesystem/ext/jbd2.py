"""The layout of an ext journal: Linux kernel documentation, "Journal (jbd2)". Numbers are
big-endian.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from google_crc32c import extend

from imagetool.disk.declarations import Bytes, Int8ub, Int32ub, Padding, Struct
from imagetool.disk.struct_layout import StructLayout

# "Block Header"
HEADER = struct.Struct(">III")  # magic, type of the block, sequence number of the transaction
MAGIC = 0xC03B3998
DESCRIPTOR, COMMIT, REVOKE = 1, 2, 5
SUPERBLOCKS = (3, 4)
"""The types of superblocks; the first one has no features."""

# "Super Block"
SUPERBLOCK_SIZE = 1024
SuperBlock = StructLayout(
    Struct(
        "magic" / Int32ub,
        "block_type" / Int32ub,
        Padding(4),
        "block_size" / Int32ub,
        "block_count" / Int32ub,
        "first" / Int32ub,
        "sequence" / Int32ub,
        "start" / Int32ub,
        Padding(4),
        "compatible" / Int32ub,
        "incompatible" / Int32ub,
        Padding(4),
        "uuid" / Bytes(16),
        Padding(16),
        "checksum_type" / Int8ub,
        Padding(3),
        "fast_commit_blocks" / Int32ub,
        Padding(164),
        "checksum" / Int32ub,
    )
)
HAS_CHECKSUM = 1
"""Compatible: commit blocks have a checksum over the blocks of their transaction."""
HAS_64_BITS, HAS_ASYNC_COMMITS, HAS_FAST_COMMITS = 0x2, 0x4, 0x20
HAS_CHECKSUM_2, HAS_CHECKSUM_3 = 0x8, 0x10
HAS_BLOCK_CHECKSUMS = HAS_CHECKSUM_2 | HAS_CHECKSUM_3
READABLE_FEATURES = 0x3F
CRC32C = 4
CHECKSUM_OFFSET = 252
DEFAULT_FAST_COMMIT_BLOCKS = 256
MIN_BLOCKS = 1024

# "Descriptor Block"
ESCAPED, SAME_UUID, LAST_TAG = 1, 2, 8
CHECKSUM_TAIL_SIZE = 4

# "Revocation Block"
REVOKE_HEADER_SIZE = 16

# "Commit Block"
COMMIT_BLOCK = struct.Struct(">12xBB2xI28xQ4x")
COMMIT_CHECKSUM_OFFSET = 16
CRC32, CRC32_SIZE = 1, 4

# "Fast commits": a tag and its length, both little-endian; the first one is the head
FAST_COMMIT_HEAD = struct.Struct("<HHII")  # 9, 8, features, transaction
FAST_COMMIT_HEAD_TAG = 9

_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_ALL_ONES = 0xFFFFFFFF


class CommitBlock(NamedTuple):
    """The fields of a commit block: its checksum, and the time since the epoch."""

    checksum_type: int
    checksum_size: int
    checksum: int
    seconds: int


class Tag(NamedTuple):
    """A block in a transaction: where it belongs in the volume, its flags and checksum."""

    block: int
    flags: int
    checksum: int


def crc32c(seed: int, data: bytes) -> int:
    """CRC-32C as the journal has it: without an inversion at either end."""
    return int(extend(seed ^ _ALL_ONES, data)) ^ _ALL_ONES


def crc32(seed: int, data: bytes) -> int:
    """CRC-32 with the highest bit first, without an inversion at either end."""
    mirrored = zlib.crc32(data.translate(_MIRRORED), _mirror(seed) ^ _ALL_ONES)
    return _mirror(mirrored ^ _ALL_ONES)


def _mirror(number: int) -> int:
    return int.from_bytes(number.to_bytes(4, "little").translate(_MIRRORED), "big")


def without_checksum(block: bytes, offset: int) -> bytes:
    """A block whose checksum of four bytes at `offset` is zero, as it is while it is computed."""
    return block[:offset] + bytes(4) + block[offset + 4 :]


def parse_tags(block: bytes, incompatible: int) -> list[Tag]:
    """The tags in a descriptor block, by the features of the journal."""
    wide = bool(incompatible & HAS_64_BITS)
    if incompatible & HAS_CHECKSUM_3:
        fields = struct.Struct(">I2xHII")
    else:
        layout = ">IHH" + "I" * wide + "2x" * bool(incompatible & HAS_CHECKSUM_2)
        fields = struct.Struct(layout)
    end = len(block)
    if incompatible & HAS_BLOCK_CHECKSUMS:
        end -= CHECKSUM_TAIL_SIZE
    tags: list[Tag] = []
    position = HEADER.size
    while position + fields.size <= end:
        values = fields.unpack_from(block, position)
        if incompatible & HAS_CHECKSUM_3:
            low, flags, high, checksum = values
        else:
            low, checksum, flags, *rest = values
            high = rest[0] if rest else 0
        tags.append(Tag(low | (high << 32 if wide else 0), flags, checksum))
        if flags & LAST_TAG:
            break
        position += fields.size + (0 if flags & SAME_UUID else 16)
    return tags


def parse_revokes(block: bytes, incompatible: int) -> tuple[int, ...] | None:
    """The blocks that a revocation block names; None for one with a wrong count."""
    size = int.from_bytes(block[12:REVOKE_HEADER_SIZE], "big")
    end = len(block)
    if incompatible & HAS_BLOCK_CHECKSUMS:
        end -= CHECKSUM_TAIL_SIZE
    if size > end:
        return None
    code, width = ("Q", 8) if incompatible & HAS_64_BITS else ("I", 4)
    count = max(0, size - REVOKE_HEADER_SIZE) // width
    return struct.unpack_from(f">{count}{code}", block, REVOKE_HEADER_SIZE)
