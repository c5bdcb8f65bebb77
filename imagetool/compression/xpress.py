"""Xpress with Huffman codes ([MS-XCA] 2.1, 2.2): one block of at most 64 KiB.

256 bytes hold the lengths of 512 codes, four bits each; then come codes in words of 16 bits, the
highest bit first, and between the words the bytes of long lengths.
"""

from __future__ import annotations

import struct

from imagetool.errors import Corrupt

MAX_BLOCK_SIZE = 65536
"""The most bytes that a block with one table of codes holds."""

_TABLE_SIZE = 256
_LOW = bytes(value & 15 for value in range(256))
_HIGH = bytes(value >> 4 for value in range(256))
_INVALID = -1
_WORDS = struct.Struct("<3H")


def decompress(packed: bytes, size: int, name: str) -> bytes:
    """Decompress a block of `size` bytes. Raises Corrupt, naming `name`."""
    try:
        if len(packed) < _TABLE_SIZE or not 0 <= size <= MAX_BLOCK_SIZE:
            raise ValueError
        return _decompress(packed, size)
    except (IndexError, ValueError, struct.error):
        raise Corrupt(
            f"{name}: damaged Xpress data",
            hint="The file is damaged: compare it with its origin.",
        ) from None


def _decode_table(packed: bytes) -> tuple[list[int], int]:
    """Return the decoding table ([MS-XCA] 2.2.4) and the bits that index it.

    An entry is symbol << 4 | length of its code.
    """
    lengths = bytearray(2 * _TABLE_SIZE)
    lengths[::2] = packed[:_TABLE_SIZE].translate(_LOW)
    lengths[1::2] = packed[:_TABLE_SIZE].translate(_HIGH)
    bits = max(lengths)
    own = lengths.__getitem__
    table: list[int] = []
    for symbol in sorted(filter(own, range(len(lengths))), key=own):
        length = lengths[symbol]
        table += [symbol << 4 | length] * (1 << (bits - length))
    if not bits or len(table) > 1 << bits:
        raise ValueError
    return table + [_INVALID] * ((1 << bits) - len(table)), bits


def _decompress(packed: bytes, size: int) -> bytes:
    """Decode literals and matches up to `size` bytes; state in locals, for speed.

    Bits are read three words at a time. Before a byte between the words is read, words read too
    early are given back: the format reads no more than leave 16 bits or more.
    """
    table, bits = _decode_table(packed)
    data = packed + bytes(18)
    position, value, count = _TABLE_SIZE, 0, 0
    mask = (1 << bits) - 1
    words = _WORDS.unpack_from
    out = bytearray()
    append = out.append
    written = 0
    while written < size:
        if count < 30:  # a code of at most 15 bits and an offset of at most 15
            first, second, third = words(data, position)
            position += 6
            value = (value & ((1 << count) - 1)) << 48 | first << 32 | second << 16 | third
            count += 48
        entry = table[value >> (count - bits) & mask]
        count -= entry & 15
        symbol = entry >> 4
        if symbol < 256:
            append(symbol)  # refuses the -1 of an invalid code
            written += 1
            continue
        length = symbol & 15
        if length == 15:
            early = (count >> 4) - 1
            position -= 2 * early
            value >>= 16 * early
            count -= 16 * early
            length = data[position]
            position += 1
            if length == 255:
                length = data[position] | data[position + 1] << 8
                position += 2
                if not length:
                    length = int.from_bytes(data[position : position + 4], "little")
                    position += 4
                if length < 15:
                    raise ValueError
            else:
                length += 15
        length += 3
        more = symbol >> 4 & 15
        count -= more
        offset = 1 << more | value >> count & ((1 << more) - 1)
        start = written - offset
        if start < 0 or length > size - written:
            raise ValueError
        if offset >= length:
            out += out[start : start + length]
        else:
            out += (out[start:] * (length // offset + 1))[:length]
        written += length
    if 8 * position - count > 8 * len(packed):
        raise ValueError
    return bytes(out)
