"""XPRESS with Huffman codes ([MS-XCA] 2.1, 2.2: "LZ77+Huffman Compression Algorithm")."""

from __future__ import annotations

from imagetool.errors import Corrupt

_SYMBOLS = 512
_TABLE = _SYMBOLS // 2  # bytes: the length of each code in four bits
_LONGEST = 15
_DAMAGED = "The volume is damaged: let the guest check it (chkdsk), or restore the image."


def decompress(packed: bytes, size: int, name: str) -> bytes:
    """The `size` bytes (at most 64 KiB) that one block holds. Raises Corrupt, naming `name`."""
    try:
        return _decompress(packed, size)
    except (IndexError, ValueError):
        raise Corrupt(f"{name}: damaged XPRESS data", hint=_DAMAGED) from None


def _codes(packed: bytes) -> list[int]:
    """For every 15 bits: symbol << 4 | length of its code."""
    lengths = [bits for byte in packed[:_TABLE] for bits in (byte & 15, byte >> 4)]
    if len(lengths) != _SYMBOLS:
        raise ValueError
    table: list[int] = []
    for length in range(1, _LONGEST + 1):
        step = 1 << (_LONGEST - length)
        for symbol, own in enumerate(lengths):
            if own == length:
                table += [symbol << 4 | length] * step
    if len(table) != 1 << _LONGEST:
        raise ValueError  # the codes do not fill the tree
    return table


def _decompress(packed: bytes, size: int) -> bytes:
    """2.2.4 "Processing": codes in words of 16 bits, long lengths in bytes between them."""
    table = _codes(packed)
    end = len(packed)
    packed += bytes(4)  # the last words may be looked at, and are not used
    value = packed[256] << 16 | packed[257] << 24 | packed[258] | packed[259] << 8
    place, spare = 260, 16
    out = bytearray()
    append = out.append
    while len(out) < size:
        entry = table[value >> 17]
        bits, symbol = entry & 15, entry >> 4
        value = value << bits & 0xFFFFFFFF
        spare -= bits
        if spare < 0:
            value |= (packed[place] | packed[place + 1] << 8) << -spare
            spare += 16
            place += 2
        if symbol < 256:
            append(symbol)
            continue
        length, bits = symbol & 15, (symbol >> 4) - 16
        if length == 15:
            length = packed[place] + 15
            place += 1
            if length == 255 + 15:
                length = packed[place] | packed[place + 1] << 8
                place += 2
                if length < 15:
                    raise ValueError
        length += 3
        offset = (1 << bits) + (value >> (32 - bits) if bits else 0)
        value = value << bits & 0xFFFFFFFF
        spare -= bits
        if spare < 0:
            value |= (packed[place] | packed[place + 1] << 8) << -spare
            spare += 16
            place += 2
        if offset > len(out) or len(out) + length > size or place > end + 4:
            raise ValueError
        if offset >= length:
            out += out[-offset : len(out) - offset + length]
        else:
            out += (out[-offset:] * (length // offset + 1))[:length]
    return bytes(out)
