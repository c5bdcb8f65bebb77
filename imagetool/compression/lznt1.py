"""LZNT1 ([MS-XCA] 2.5): chunks of up to 4,096 bytes, each stored or compressed."""

from __future__ import annotations

from imagetool.errors import Corrupt

_CHUNK_SIZE = 4096


def decompress(packed: bytes, limit: int, name: str) -> bytes:
    """Decompress at most `limit` bytes of `packed`. Raises Corrupt, naming `name`."""
    out = bytearray()
    position, end = 0, len(packed)
    while position + 2 <= end and len(out) < limit:
        header = int.from_bytes(packed[position : position + 2], "little")
        if not header:
            break
        position += 2
        chunk_end = position + (header & 0x0FFF) + 1
        if chunk_end > end:
            raise Corrupt(f"{name}: a compressed chunk ends beyond its unit", hint=_DAMAGED)
        if header & 0x8000:
            _decompress_chunk(packed, position, chunk_end, out, name)
        else:
            out += packed[position:chunk_end]
        position = chunk_end
    return bytes(out[:limit])


_DAMAGED = "The volume is damaged: let the guest check it (chkdsk), or restore the image."


def _decompress_chunk(
    packed: bytes, position: int, chunk_end: int, out: bytearray, name: str
) -> None:
    base = len(out)
    while position < chunk_end:
        flags = packed[position]
        position += 1
        for bit in range(8):
            if position >= chunk_end:
                return
            if not flags >> bit & 1:
                out.append(packed[position])
                position += 1
                continue
            token = int.from_bytes(packed[position : position + 2], "little")
            position += 2
            done = len(out) - base
            # Further into the chunk more bits of a token are distance, and fewer length.
            bits = max(4, (done - 1).bit_length()) if done else 4
            distance = (token >> (16 - bits)) + 1
            length = (token & ((1 << (16 - bits)) - 1)) + 3
            if position > chunk_end or distance > done or done + length > _CHUNK_SIZE:
                raise Corrupt(f"{name}: a damaged compressed chunk", hint=_DAMAGED)
            for _ in range(length):
                out.append(out[-distance])
