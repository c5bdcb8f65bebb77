"""LZX ([MS-PATCH] "LZX DELTA Compression"), as used in cabinets and by the overlay filter (WOF).

In cabinets ([MS-CAB] 1.3.3) blocks of 32 KiB are decoded one after the other; the window and the
trees' lengths are carried over. In images and files of the overlay filter ([MS-WIM]) each chunk of
32 KiB stands on its own. Codes are looked up in tables of up to 2^16 entries, each a symbol and
the length of its code.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence

from imagetool.errors import Corrupt

_FRAME_SIZE = 32768
_POSITION_SLOTS = {15: 30, 16: 32, 17: 34, 18: 36, 19: 38, 20: 42, 21: 50}
_FOOTER_BITS = [0, 0, 0, 0, *(n // 2 - 1 for n in range(4, 36)), *([17] * 14)]
_BASE_POSITIONS = [0]
for _bits in _FOOTER_BITS:
    _BASE_POSITIONS.append(_BASE_POSITIONS[-1] + (1 << _bits))

# The formatted offset is the offset plus two.
_SLOT_OFFSETS = [start - 2 for start in _BASE_POSITIONS]
_VERBATIM, _ALIGNED, _UNCOMPRESSED = 1, 2, 3
_INVALID = -1
_MASKS = [(1 << bits) - 1 for bits in range(64)]
_FIRST_MATCH = 256 << 5  # the first table entry of a match; smaller ones are literals
_MAX_E8_FRAMES = 32768  # frames: the first GiB
_WIM_E8_FILE_SIZE = 12_000_000
_NUM_CHARS, _NUM_SECONDARY_LENGTHS, _PRETREE_SIZE = 256, 249, 20


class _Damaged(Exception):
    """The bit stream is invalid."""


def _decode_table(lengths: Sequence[int], bits: int = 16) -> list[int]:
    """Return a decoding table indexed by `bits` bits: symbol << 5 | length of its code.

    An empty tree gives an empty table.
    """
    table: list[int] = []
    own = lengths.__getitem__
    for symbol in sorted(filter(own, range(len(lengths))), key=own):
        length = lengths[symbol]
        table += [symbol << 5 | length] * (1 << (bits - length))
    if len(table) > 1 << bits:
        raise _Damaged
    if table:
        table += [_INVALID] * ((1 << bits) - len(table))
    return table


class _BitReader:
    """A bit stream of 16-bit words, the highest bit first; read 64 bits at a time.

    After an uncompressed block the words may begin at any byte: they are unpacked once for each of
    the eight alignments of 64 bits, so that many small blocks cost no more than large ones.
    """

    __slots__ = (
        "_alignments",
        "_data",
        "count",
        "limit_bits",
        "next_word",
        "start",
        "value",
        "words",
    )

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._alignments: dict[int, tuple[int, ...]] = {}
        self.limit_bits = 8 * len(data) + 16
        self.seek(0)

    def seek(self, start: int) -> None:
        """Continue at a byte offset."""
        self.start = start
        self.next_word, alignment = divmod(start, 8)
        self.value = self.count = 0
        if alignment not in self._alignments:
            rest = self._data[alignment:]
            rest += bytes(-len(rest) % 8 + 16)
            units = array("H", rest)
            units.byteswap()
            self._alignments[alignment] = struct.unpack(f">{len(rest) // 8}Q", units.tobytes())
        self.words = self._alignments[alignment]

    def read(self, bits: int) -> int:
        while self.count < bits:
            if self.next_word >= len(self.words):
                raise _Damaged
            self.value = (self.value & ((1 << self.count) - 1)) << 64 | self.words[self.next_word]
            self.next_word += 1
            self.count += 64
        self.count -= bits
        return self.value >> self.count & ((1 << bits) - 1)

    def symbol(self, table: list[int]) -> int:
        index = self.read(16) * len(table) >> 16
        entry = table[index] if table else _INVALID
        if entry < 0:
            raise _Damaged
        self.count += 16 - (entry & 31)
        return entry >> 5

    @property
    def consumed_bits(self) -> int:
        """The number of bits read so far."""
        return 8 * (self.start % 8) + 64 * self.next_word - self.count


class LzxDecoder:
    """Decodes the blocks of one folder in their order. Raises Corrupt, naming `name`."""

    hint = "The cabinet is damaged: compare it with its origin."

    def __init__(self, window_bits: int, name: str) -> None:
        if window_bits not in _POSITION_SLOTS:
            raise Corrupt(f"{name}: an LZX window of 2^{window_bits} bytes", hint=self.hint)
        self._name = name
        self._window = 1 << window_bits
        self._main_lengths = [0] * (_NUM_CHARS + 8 * _POSITION_SLOTS[window_bits])
        self._length_lengths = [0] * _NUM_SECONDARY_LENGTHS
        self._main: list[int] = []
        self._length: list[int] = []
        self._aligned: list[int] = []
        self._recent_offsets = [1, 1, 1]
        self._history = bytearray()
        self._block_type = 0
        self._block_left = 0  # bytes left in the current block
        self._padding_due = False  # a padding byte follows an uncompressed block of odd length
        self._frame = 0
        self._e8_file_size: int | None = None
        self._header_read = False

    def decode(self, data: bytes, size: int) -> bytes:
        """Decode the `size` bytes of one block."""
        history = self._history
        if len(history) > 4 * self._window:
            del history[: -self._window]
        start = len(history)
        try:
            self._decode(data, start + size)
        except (_Damaged, IndexError, ValueError, struct.error):
            raise Corrupt(
                f"{self._name}: damaged LZX data in block {self._frame}", hint=self.hint
            ) from None
        frame = bytes(history[start : start + size])
        if self._e8_file_size and self._frame < _MAX_E8_FRAMES and size > 10:
            frame = _undo_e8_translation(frame, self._frame * _FRAME_SIZE, self._e8_file_size)
        self._frame += 1
        return frame

    def _decode(self, data: bytes, end: int) -> None:
        bits = _BitReader(data)
        history = self._history
        if not self._header_read:
            self._header_read = True
            self._e8_file_size = bits.read(16) << 16 | bits.read(16) if bits.read(1) else None
        while len(history) < end:
            if not self._block_left:
                if self._padding_due:  # the padding of an uncompressed block of odd length
                    bits.seek(bits.start + 1)
                    self._padding_due = False
                self._begin_block(bits)
                if self._block_type == _UNCOMPRESSED:
                    # Its data begin at the next word, with the three recent offsets.
                    position = bits.start + 2 * ((bits.consumed_bits - 8 * bits.start) // 16 + 1)
                    self._recent_offsets = list(struct.unpack_from("<3I", data, position))
                    bits.seek(position + 12)
            amount = min(self._block_left, end - len(history))
            if self._block_type == _UNCOMPRESSED:
                piece = data[bits.start : bits.start + amount]
                if len(piece) != amount:
                    raise _Damaged
                history += piece
                bits.seek(bits.start + amount)
            else:
                self._decode_compressed(bits, len(history) + amount)
                if len(history) > end or bits.consumed_bits > bits.limit_bits:
                    raise _Damaged  # a match may not leave its frame
            self._block_left -= amount
        if self._padding_due and not self._block_left and bits.start < len(data):
            self._padding_due = False  # the padding byte ended this block of the cabinet

    def _begin_block(self, bits: _BitReader) -> None:
        self._block_type = bits.read(3)
        self._block_left = self._read_size(bits)
        if not self._block_left or self._block_type not in (_VERBATIM, _ALIGNED, _UNCOMPRESSED):
            raise _Damaged
        if self._block_type == _UNCOMPRESSED:
            self._padding_due = bool(self._block_left & 1)
            return
        if self._block_type == _ALIGNED:
            self._aligned = _decode_table([bits.read(3) for _ in range(8)])
        self._read_lengths(bits, self._main_lengths, 0, _NUM_CHARS)
        self._read_lengths(bits, self._main_lengths, _NUM_CHARS, len(self._main_lengths))
        self._main = _decode_table(self._main_lengths)
        self._read_lengths(bits, self._length_lengths, 0, _NUM_SECONDARY_LENGTHS)
        self._length = _decode_table(self._length_lengths)

    def _read_size(self, bits: _BitReader) -> int:
        """The size of a block in bytes."""
        return bits.read(16) << 8 | bits.read(8)

    def _read_lengths(self, bits: _BitReader, lengths: list[int], first: int, last: int) -> None:
        """Read the code lengths of a tree, coded as differences to those of the block before."""
        codes = [bits.read(4) for _ in range(_PRETREE_SIZE)]
        tree = _decode_table(codes, max(codes))
        position = first
        while position < last:
            code = bits.symbol(tree)
            if code in (17, 18):
                run = bits.read(4) + 4 if code == 17 else bits.read(5) + 20
                lengths[position : position + run] = [0] * (min(position + run, last) - position)
            elif code == 19:
                run = bits.read(1) + 4
                value = (lengths[position] - bits.symbol(tree)) % 17
                lengths[position : position + run] = [value] * (
                    min(position + run, last) - position
                )
            else:
                run = 1
                lengths[position] = (lengths[position] - code) % 17
            position += run
        if position > last:
            raise _Damaged

    def _decode_compressed(self, bits: _BitReader, stop: int) -> None:
        """Decode literals and matches up to `stop`; state in locals, for speed."""
        out, main, length_table, aligned = self._history, self._main, self._length, self._aligned
        words, position, value, count = bits.words, bits.next_word, bits.value, bits.count
        recent0, recent1, recent2 = self._recent_offsets
        extra, offsets = _FOOTER_BITS, _SLOT_OFFSETS
        is_aligned = self._block_type == _ALIGNED
        append, written, masks = out.append, len(out), _MASKS
        while written < stop:
            if count < 16:
                value = (value & masks[count]) << 64 | words[position]
                position += 1
                count += 64
            entry = main[value >> (count - 16) & 0xFFFF]
            count -= entry & 31
            if entry < _FIRST_MATCH:
                append(entry >> 5)  # refuses the -1 of an invalid code
                written += 1
                continue
            symbol = entry >> 5
            length = (symbol & 7) + 2
            if length == 9:
                if count < 16:
                    value = (value & masks[count]) << 64 | words[position]
                    position += 1
                    count += 64
                entry = length_table[value >> (count - 16) & 0xFFFF]
                if entry < 0:
                    raise _Damaged
                count -= entry & 31
                length += entry >> 5
            slot = (symbol >> 3) - 32
            if slot > 2:
                more = extra[slot]
                if count < more:
                    value = (value & masks[count]) << 64 | words[position]
                    position += 1
                    count += 64
                if is_aligned and more >= 3:
                    count -= more - 3
                    offset = offsets[slot] + ((value >> count & ((1 << (more - 3)) - 1)) << 3)
                    if count < 16:
                        value = (value & masks[count]) << 64 | words[position]
                        position += 1
                        count += 64
                    entry = aligned[value >> (count - 16) & 0xFFFF]
                    if entry < 0:
                        raise _Damaged
                    count -= entry & 31
                    offset += entry >> 5
                else:
                    count -= more
                    offset = offsets[slot] + (value >> count & masks[more])
                recent0, recent1, recent2 = offset, recent0, recent1
            elif slot == 0:
                offset = recent0
            elif slot == 1:
                offset = recent1
                recent0, recent1 = offset, recent0
            else:
                offset = recent2
                recent0, recent2 = offset, recent0
            first = written - offset
            if first < 0 or offset < 1:
                raise _Damaged
            if offset >= length:
                out += out[first : first + length]
            else:
                out += (out[first:] * (length // offset + 1))[:length]
            written += length
        self._recent_offsets = [recent0, recent1, recent2]
        bits.next_word, bits.value, bits.count = position, value, count


class LzxChunk(LzxDecoder):
    """One chunk of a file of the overlay filter, or of an image: LZX as in [MS-WIM].

    There is no header; one bit tells if a block is as large as a chunk; x86 calls are always
    translated, for a file size of 12,000,000 bytes. Raises Corrupt, naming `name`.
    """

    hint = "The file is damaged: compare it with its origin."

    def __init__(self, name: str) -> None:
        super().__init__(15, name)
        self._header_read = True
        self._e8_file_size = _WIM_E8_FILE_SIZE

    def _read_size(self, bits: _BitReader) -> int:
        return _FRAME_SIZE if bits.read(1) else bits.read(16)


def _undo_e8_translation(frame: bytes, frame_offset: int, size: int) -> bytes:
    """Make the targets of x86 calls (E8) relative again, as before compression."""
    out = bytearray(frame)
    last = len(out) - 10
    position = out.find(b"\xe8", 0, last)
    while position >= 0:
        address = frame_offset + position
        target = int.from_bytes(out[position + 1 : position + 5], "little", signed=True)
        if -address <= target < size:
            relative = target - address if target >= 0 else target + size
            out[position + 1 : position + 5] = (relative & 0xFFFFFFFF).to_bytes(4, "little")
        position = out.find(b"\xe8", position + 5, last)
    return bytes(out)
