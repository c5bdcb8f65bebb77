"""Folders of a cabinet: blocks that are decompressed in sequence ([MS-CAB] 2.2, 2.3).

What was decompressed last is kept, for members lie one behind the other; a member before that is
decompressed from the start again. Bytes that are only passed over cost of the budget, those of a
member do not: who asks for it knows its size.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from imagetool.compression.lzx import LzxDecoder
from imagetool.contracts import Source
from imagetool.disk.source import read_exactly
from imagetool.errors import Corrupt, ImagetoolError, Unsupported
from imagetool.package.cab import structs as s

DAMAGED = "The cabinet is truncated or damaged: compare it with its origin."
_KEPT_SIZE = 32 << 20
_MAX_COMPRESSED_BLOCK_SIZE = s.BLOCK_SIZE + 6144
_METHOD_NAMES = {s.STORED: "stored", s.MSZIP: "MSZIP", s.QUANTUM: "Quantum", s.LZX: "LZX"}
_FAST_METHODS = (s.STORED, s.MSZIP)
_FAST_BYTES_PER_BYTE = 16
"""Bytes that a fast method gives in the time in which LZX gives one."""


class FolderPart(NamedTuple):
    """The blocks of a folder that lie in one cabinet."""

    source: Source
    offset: int
    """The offset of the first block in the file."""
    block_count: int
    block_reserve: int
    """The bytes that follow the head of every block, for applications."""


class CabinetFolder:
    """A folder: one stream of bytes, in one cabinet or continued in the next ones of a set."""

    def __init__(self, where: str, compression: int, part: FolderPart) -> None:
        self._where = where
        self._compression = compression
        self._parts = [part]
        self._budget = part.source.budget
        self._blocks = self._decompressed()
        self._kept = bytearray()
        self._kept_offset = 0

    def continue_in(self, other: CabinetFolder) -> None:
        """Append the blocks of the first folder of the next cabinet. Raises Corrupt."""
        if other._compression != self._compression:
            raise Corrupt(
                f"{other._where}: a folder goes on with another compression", hint=DAMAGED
            )
        self._parts += other._parts

    def chunks(self, name: str, offset: int, size: int) -> Iterator[bytes]:
        """The `size` bytes at `offset`, those of the member `name`, in pieces.

        Raises Corrupt, Unsupported, BudgetSpent.
        """
        end = offset + size
        capacity = sum(part.block_count for part in self._parts) * s.BLOCK_SIZE
        if end > capacity:
            raise Corrupt(
                f"{self._where} holds at most {capacity} bytes, and {name} ends at {end}",
                hint=DAMAGED,
            )
        with self._budget:
            self._pass_over(offset, name, end)
        while offset < end:
            if offset < self._kept_offset:  # another member was read meanwhile
                self._restart()
                self._pass_over(offset, name, end)
            if offset >= self._reached():
                self._append_block(name, end)
            first = offset - self._kept_offset
            piece = bytes(self._kept[first : first + min(end - offset, s.BLOCK_SIZE)])
            yield piece
            offset += len(piece)

    def _reached(self) -> int:
        """The offset up to which the folder is decompressed."""
        return self._kept_offset + len(self._kept)

    def _restart(self) -> None:
        self._blocks = self._decompressed()
        self._kept = bytearray()
        self._kept_offset = 0

    def _pass_over(self, offset: int, name: str, end: int) -> None:
        """Decompress what lies before `offset`."""
        if offset < self._kept_offset:
            self._restart()
        fast = self._compression & s.METHOD_MASK in _FAST_METHODS
        while self._reached() < offset:
            size = self._append_block(name, end)
            self._budget.spend(self._where, 0, size // (_FAST_BYTES_PER_BYTE if fast else 1))

    def _append_block(self, name: str, end: int) -> int:
        """Decompress the next block, keep it, and return its size."""
        try:
            block = next(self._blocks, None)
        except ImagetoolError:
            self._restart()  # the next member that needs this block is told the same
            raise
        if block is None:
            raise Corrupt(
                f"{self._where} ends after {self._reached()} bytes, and {name} ends at {end}",
                hint=DAMAGED,
            )
        if len(self._kept) > _KEPT_SIZE:
            self._kept_offset += len(self._kept) // 2
            del self._kept[: len(self._kept) // 2]
        self._kept += block
        return len(block)

    def _decompressed(self) -> Iterator[bytes]:
        """Decompress the blocks from the first on; one may be split between two cabinets."""
        decode: Callable[[bytes, int], bytes] | None = None
        packed, size, what = b"", 0, ""
        for number, (piece, size) in enumerate(self._packed()):
            what = what or f"block {number}"
            packed += piece
            if len(packed) > _MAX_COMPRESSED_BLOCK_SIZE:
                raise Corrupt(f"{self._where}: {what} of {len(packed)} bytes", hint=DAMAGED)
            if not size:
                continue
            decode = decode or self._decoder()
            data = decode(packed, size)
            if len(data) != size:
                raise Corrupt(
                    f"{self._where}: {what} gives {len(data)} bytes instead of {size}",
                    hint=DAMAGED,
                )
            yield data
            packed, what = b"", ""
        if what:
            raise Corrupt(f"{self._where}: {what} ends too early", hint=DAMAGED)

    def _packed(self) -> Iterator[tuple[bytes, int]]:
        """Read the compressed blocks: bytes and uncompressed size, 0 if the next continues it."""
        number = 0
        for part in self._parts:
            offset, head_size = part.offset, s.DATA.size + part.block_reserve
            for _ in range(part.block_count):
                what = f"block {number} of {self._where.rpartition(': ')[2]}"
                head = read_exactly(part.source, offset, head_size, what)
                checksum, packed_size, size = s.DATA.unpack_from(head)
                if size > s.BLOCK_SIZE or packed_size > _MAX_COMPRESSED_BLOCK_SIZE:
                    raise Corrupt(
                        f"{self._where}: block {number} of {packed_size} and {size} bytes "
                        f"(offset {offset})",
                        hint=DAMAGED,
                    )
                packed = read_exactly(part.source, offset + head_size, packed_size, what)
                if checksum and block_checksum(head[4:], block_checksum(packed)) != checksum:
                    raise Corrupt(
                        f"{self._where}: block {number} has a wrong checksum (offset {offset})",
                        hint=DAMAGED,
                    )
                yield packed, size
                offset += head_size + packed_size
                number += 1

    def _decoder(self) -> Callable[[bytes, int], bytes]:
        method = self._compression & s.METHOD_MASK
        if method == s.STORED:
            return lambda packed, size: packed
        if method == s.MSZIP:
            return _MszipDecoder(self._where).decode
        if method == s.LZX:
            return LzxDecoder(self._compression >> 8 & 0x1F, self._where).decode
        name = _METHOD_NAMES.get(method, f"method {method}")
        raise Unsupported(
            f"{self._where} is compressed with {name}, which is not read",
            hint="Repack it with another tool; the other folders can be read.",
        )


class _MszipDecoder:
    """MSZIP ([MS-MCI]): each block is a deflate stream whose dictionary is the block before."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._dictionary = b""

    def decode(self, packed: bytes, size: int) -> bytes:
        try:
            if packed[:2] != b"CK":
                raise zlib.error("no CK")
            inflate = zlib.decompressobj(-15, zdict=self._dictionary)
            data = inflate.decompress(packed[2:], size + 1)
        except zlib.error:
            raise Corrupt(f"{self._where}: damaged MSZIP data", hint=DAMAGED) from None
        self._dictionary = data
        return data


def block_checksum(data: bytes, seed: int = 0) -> int:
    """Compute the checksum of [MS-CAB] 3.1: XOR of 32-bit words, trailing bytes in big-endian."""
    whole = len(data) & ~3
    if whole:
        # The XOR of all words at once: the halves are folded onto each other.
        number, bits = int.from_bytes(data[:whole], "little"), whole * 8
        while bits > 32:
            half = (bits // 32 + 1) // 2 * 32
            number = (number >> half) ^ (number & ((1 << half) - 1))
            bits = half
        seed ^= number
    return seed ^ int.from_bytes(data[whole:], "big")
