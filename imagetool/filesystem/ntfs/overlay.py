"""Files that the Windows overlay filter compressed (CompactOS, `compact /exe`).

The data attribute is empty; the reparse point names the algorithm ([MS-FSCC] 2.1.2.1, wofapi.h,
WOF_EXTERNAL_INFO and FILE_PROVIDER_EXTERNAL_INFO), and the alternate stream WofCompressedData holds
a table of offsets and the chunks, each compressed on its own, or stored where that is no longer.
The layout is that of a resource in a WIM ("Windows Imaging File Format", "Resources").
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence

from imagetool.disk.source import Range, Source
from imagetool.errors import Corrupt, Unsupported

STREAM = "WofCompressedData"
_INFORMATION = struct.Struct("<8xIIII")  # behind tag and length: version, provider, version, …
_FILE_PROVIDER = 2
_CHUNKS_KEPT = 64
_WIDE = 1 << 32
_DAMAGED = "The volume is damaged: let the guest check it (chkdsk), or restore the image."

Decompress = Callable[[bytes, int, str], bytes]
_CHUNKS = {0: 4096, 1: 32768, 2: 8192, 3: 16384}
"""The size of a chunk by algorithm: XPRESS, LZX, XPRESS, XPRESS."""
_LZX = 1


def open_overlay(reparse_point: bytes, stream: Source, size: int, name: str) -> OverlayData:
    """The data behind a reparse point of the overlay filter.

    Raises Unsupported for a file that lies in a WIM, and for an unknown algorithm.
    """
    if len(reparse_point) < _INFORMATION.size:
        raise Corrupt(f"{name}: a damaged reparse point", hint=_DAMAGED)
    _, provider, _, algorithm = _INFORMATION.unpack_from(reparse_point)
    if provider != _FILE_PROVIDER:
        raise Unsupported(
            f"{name}: the file's data lies in a WIM archive beside the volume (WIMBoot)",
            hint="Such files are not read.",
        )
    if algorithm not in _CHUNKS:
        raise Unsupported(f"{name}: compressed by an unknown algorithm ({algorithm})")
    from imagetool.compression import lzx, xpress

    decompress = lzx.decompress_chunk if algorithm == _LZX else xpress.decompress
    return OverlayData(stream, size, _CHUNKS[algorithm], decompress, name)


class OverlayData:
    """The data of a compressed file; only the chunks that a read touches are decompressed."""

    __slots__ = ("_chunk", "_chunks", "_decompress", "_start", "_stream", "_width", "name", "size")

    def __init__(
        self, stream: Source, size: int, chunk: int, decompress: Decompress, name: str
    ) -> None:
        self._stream = stream
        self._chunk = chunk
        self._decompress = decompress
        self._chunks: dict[int, bytes] = {}
        self._width = 8 if size > _WIDE else 4
        self._start = self._width * max(0, -(-size // chunk) - 1)
        self.name = name
        self.size = size
        if self._start > stream.size:
            raise Corrupt(f"{name}: a table of {self._start} bytes does not fit", hint=_DAMAGED)

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return self.read_many([(offset, length)])[0]

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many: one batch for the table, one for the chunks."""
        size = self._chunk
        results = []
        for offset, length in ranges:
            length = min(length, self.size - offset)
            if offset < 0 or length <= 0:
                results.append(b"")
                continue
            first, last = offset // size, (offset + length - 1) // size
            parts = []
            for start in range(first, last + 1, _CHUNKS_KEPT):
                numbers = range(start, min(start + _CHUNKS_KEPT, last + 1))
                self._load(numbers)
                parts += [self._chunks[number] for number in numbers]
            inside = offset - first * size
            results.append(b"".join(parts)[inside : inside + length])
        return results

    def _load(self, numbers: Iterable[int]) -> None:
        wanted = [number for number in numbers if number not in self._chunks]
        if not wanted:
            return
        if len(self._chunks) + len(wanted) > _CHUNKS_KEPT:
            self._chunks.clear()
            wanted = list(numbers)
        places = self._places(wanted)
        for number, (_, length), packed in zip(
            wanted, places, self._stream.read_many(places), strict=True
        ):
            if len(packed) != length:
                raise Corrupt(f"{self.name}: chunk {number} is missing", hint=_DAMAGED)
            expected = min(self._chunk, self.size - number * self._chunk)
            if length == expected:
                self._chunks[number] = packed
            else:
                where = f"{self.name}: chunk {number}"
                self._chunks[number] = self._decompress(packed, expected, where)

    def _places(self, numbers: Sequence[int]) -> list[Range]:
        """Where the chunks lie in the stream: the table holds where each but the first begins."""
        first, last = numbers[0], numbers[-1]
        width, end = self._width, self._start // self._width
        low, high = max(first - 1, 0), min(last + 1, end)
        raw = self._stream.read_at(low * width, (high - low) * width)
        listed = struct.unpack(f"<{len(raw) // width}{'Q' if width == 8 else 'I'}", raw)
        bounds = {low + 1 + index: offset for index, offset in enumerate(listed)}
        bounds |= {0: 0, end + 1: self._stream.size - self._start}
        places = []
        for number in numbers:
            start, stop = bounds.get(number, -1), bounds.get(number + 1, -1)
            expected = min(self._chunk, self.size - number * self._chunk)
            if not 0 <= start <= stop <= self._stream.size or stop - start > expected:
                raise Corrupt(f"{self.name}: chunk {number} has no sound place", hint=_DAMAGED)
            places.append((self._start + start, stop - start))
        return places
