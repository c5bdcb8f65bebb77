"""LZNT1 ([MS-XCA] 2.5): chunks of up to 4,096 bytes, each stored or compressed."""

from __future__ import annotations

from imagetool.errors import Corrupt

_CHUNK = 4096


def decompress(packed: bytes, limit: int, name: str) -> bytes:
    """At most `limit` bytes of what `packed` holds. Raises Corrupt, naming `name`."""
    out = bytearray()
    place, end = 0, len(packed)
    while place + 2 <= end and len(out) < limit:
        header = int.from_bytes(packed[place : place + 2], "little")
        if not header:
            break
        place += 2
        stop = place + (header & 0x0FFF) + 1
        if stop > end:
            raise Corrupt(f"{name}: a compressed chunk ends beyond its unit", hint=_DAMAGED)
        if header & 0x8000:
            _chunk(packed, place, stop, out, name)
        else:
            out += packed[place:stop]
        place = stop
    return bytes(out[:limit])


_DAMAGED = "The volume is damaged: let the guest check it (chkdsk), or restore the image."


def _chunk(packed: bytes, place: int, stop: int, out: bytearray, name: str) -> None:
    base = len(out)
    while place < stop:
        flags = packed[place]
        place += 1
        for bit in range(8):
            if place >= stop:
                return
            if not flags >> bit & 1:
                out.append(packed[place])
                place += 1
                continue
            token = int.from_bytes(packed[place : place + 2], "little")
            place += 2
            done = len(out) - base
            # The further into the chunk, the more bits say how far back and the fewer how long.
            bits = max(4, (done - 1).bit_length()) if done else 4
            back = (token >> (16 - bits)) + 1
            length = (token & ((1 << (16 - bits)) - 1)) + 3
            if place > stop or back > done or done + length > _CHUNK:
                raise Corrupt(f"{name}: a damaged compressed chunk", hint=_DAMAGED)
            for _ in range(length):
                out.append(out[-back])
