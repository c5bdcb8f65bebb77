"""Files that the Windows PatchedSource Filter compressed (WOF, CompactOS), as sources.

Such a file has a reparse point ([MS-FSCC] 2.1.2.1, IO_REPARSE_TAG_WOF; wofapi.h,
WOF_EXTERNAL_INFO and FILE_PROVIDER_EXTERNAL_INFO_V1), data that is one hole of the right size, and
a stream WofCompressedData laid out as a resource of a WIM is ([MS-WIM] "Resource"): a table with
the offset of each chunk but the first, counted from the end of the table, then the chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import NamedTuple

from imagetool.compression import xpress
from imagetool.compression.lzx import LzxChunk
from imagetool.contracts import Range, Source
from imagetool.errors import Corrupt, Unsupported
from imagetool.filesystem.ntfs import structs as s

STREAM_NAME = "WofCompressedData"
"""The alternate stream that holds the chunks."""

_REPARSE_POINT_SIZE = 24

_DAMAGED = "The volume is damaged: let the guest check it (chkdsk), or restore the image."
_EXPAND = "`compact /u /exe` in the guest expands such files."
_MAX_CACHED_CHUNK_BYTES = 1 << 20
_OFFSETS_PER_PAGE = 1024  # offsets of the table that are read at once
_MAX_CACHED_PAGES = 64


class Algorithm(NamedTuple):
    """A compression algorithm: its name, the size of a chunk in bytes, and its decompressor."""

    name: str
    chunk_size: int
    decompress: Callable[[bytes, int, str], bytes]


def _decompress_lzx(packed: bytes, size: int, name: str) -> bytes:
    return LzxChunk(name).decode(packed, size)


XPRESS4K = Algorithm("XPRESS4K", 4096, xpress.decompress)
LZX = Algorithm("LZX", 32768, _decompress_lzx)
XPRESS8K = Algorithm("XPRESS8K", 8192, xpress.decompress)
XPRESS16K = Algorithm("XPRESS16K", 16384, xpress.decompress)

ALGORITHMS = (XPRESS4K, LZX, XPRESS8K, XPRESS16K)
"""The algorithms by number: FILE_PROVIDER_COMPRESSION_…, wofapi.h."""


def read_algorithm(point: bytes, name: str) -> Algorithm:
    """The algorithm that a reparse point of the overlay filter names (WOF_EXTERNAL_INFO, wofapi.h).

    Raises Unsupported for a file whose data lies in a WIM, and for an unknown provider, version or
    algorithm; Corrupt for a reparse point that is too short.
    """
    if len(point) < _REPARSE_POINT_SIZE - 8:
        raise Corrupt(f"{name}: a reparse point of {len(point)} bytes", hint=_DAMAGED)
    fields = s.WofReparsePoint.parse(point[:_REPARSE_POINT_SIZE].ljust(_REPARSE_POINT_SIZE, b"\0"))
    if fields.provider == s.WOF_PROVIDER_WIM:
        raise Unsupported(
            f"{name}: the file's data lies in a WIM archive (WIMBoot)",
            hint="Read the file in that archive; on this volume there is only a pointer to it.",
        )
    if fields.provider != s.WOF_PROVIDER_FILE:
        raise Unsupported(
            f"{name}: provider {fields.provider} of the Windows overlay filter holds the data",
            hint=_EXPAND,
        )
    if len(point) < _REPARSE_POINT_SIZE:
        raise Corrupt(f"{name}: a reparse point of {len(point)} bytes", hint=_DAMAGED)
    if (fields.version, fields.provider_version) != (1, 1):
        raise Unsupported(
            f"{name}: version {fields.version}.{fields.provider_version} of the Windows overlay "
            "filter's reparse point",
            hint=_EXPAND,
        )
    if fields.algorithm >= len(ALGORITHMS):
        raise Unsupported(
            f"{name}: algorithm {fields.algorithm} of the Windows overlay filter", hint=_EXPAND
        )
    return ALGORITHMS[fields.algorithm]


class _BoundedCache:
    """A cache of at most `max_items`, the newest; safe from several threads."""

    __slots__ = ("_items", "_lock", "_max_items")

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self._items: dict[int, bytes] = {}
        self._lock = Lock()

    def get(self, keys: Iterable[int]) -> dict[int, bytes]:
        with self._lock:
            return {key: self._items[key] for key in keys if key in self._items}

    def update(self, items: Mapping[int, bytes]) -> None:
        with self._lock:
            for key in list(items)[-self._max_items :]:
                self._items.pop(key, None)
                self._items[key] = items[key]
            while len(self._items) > self._max_items:
                del self._items[next(iter(self._items))]


class WofData:
    """The data of a compressed file: only the chunks that a read touches are decompressed.

    `size` is the size of the uncompressed data. Raises Corrupt where the stream is too short for
    its chunks.
    """

    __slots__ = (
        "_algorithm",
        "_chunks",
        "_count",
        "_entry_size",
        "_pages",
        "_stream",
        "budget",
        "name",
        "size",
    )

    def __init__(self, stream: Source, size: int, algorithm: Algorithm, name: str) -> None:
        self._stream = stream
        self.budget = stream.budget
        self._algorithm = algorithm
        self.name = name
        self.size = size
        self._count = -(-size // algorithm.chunk_size)
        self._entry_size = 8 if size > 0xFFFFFFFF else 4
        self._chunks = _BoundedCache(_MAX_CACHED_CHUNK_BYTES // algorithm.chunk_size)
        self._pages = _BoundedCache(_MAX_CACHED_PAGES)
        if size and self._table_size + self._count > stream.size:  # no chunk is empty
            raise Corrupt(
                f"{name}: {self._count} compressed chunks in a stream of {stream.size} bytes",
                hint=_DAMAGED,
            )

    @property
    def _table_size(self) -> int:
        return max(0, self._count - 1) * self._entry_size

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return self.read_many([(offset, length)])[0]

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many: one batch for the table where it is not cached, one for chunks."""
        size = self._algorithm.chunk_size
        bounded = [
            (offset, offset + max(0, min(length, self.size - offset))) if offset >= 0 else (0, 0)
            for offset, length in ranges
        ]
        wanted = {
            number
            for start, end in bounded
            if start < end
            for number in range(start // size, (end - 1) // size + 1)
        }
        chunks = self._load_chunks(sorted(wanted))
        return [self._slice(chunks, start, end) for start, end in bounded]

    def _slice(self, chunks: Mapping[int, bytes], start: int, end: int) -> bytes:
        if start >= end:
            return b""
        size = self._algorithm.chunk_size
        first, last = start // size, (end - 1) // size
        if first == last:
            return chunks[first][start - first * size : end - first * size]
        return b"".join(
            (
                chunks[first][start - first * size :],
                *(chunks[number] for number in range(first + 1, last)),
                chunks[last][: end - last * size],
            )
        )

    def _load_chunks(self, numbers: Sequence[int]) -> dict[int, bytes]:
        """The chunks by their numbers, decompressed."""
        found = self._chunks.get(numbers)
        missing = [number for number in numbers if number not in found]
        if not missing:
            return found
        chunk_ranges = self._chunk_ranges(missing)
        fresh: dict[int, bytes] = {}
        for number, chunk_range, packed in zip(
            missing, chunk_ranges, self._stream.read_many(chunk_ranges), strict=True
        ):
            if len(packed) != chunk_range[1]:
                raise Corrupt(f"{self.name}: chunk {number} ends beyond its stream", hint=_DAMAGED)
            plain = self._uncompressed_size(number)
            if len(packed) == plain:
                fresh[number] = packed
            else:
                where = f"{self.name}: chunk {number}"
                fresh[number] = self._algorithm.decompress(packed, plain, where)
        self._chunks.update(fresh)
        return found | fresh

    def _uncompressed_size(self, number: int) -> int:
        return min(self._algorithm.chunk_size, self.size - number * self._algorithm.chunk_size)

    def _chunk_ranges(self, numbers: Sequence[int]) -> list[Range]:
        """The ranges of these chunks in the stream. Raises Corrupt for one that cannot be."""
        bounds = {bound for number in numbers for bound in (number, number + 1)}
        wanted = {(bound - 1) // _OFFSETS_PER_PAGE for bound in bounds if 0 < bound < self._count}
        pages = self._pages.get(wanted)
        missing = sorted(wanted - pages.keys())
        if missing:
            length = _OFFSETS_PER_PAGE * self._entry_size
            ranges = [
                (page * length, min(length, self._table_size - page * length)) for page in missing
            ]
            fresh = dict(zip(missing, self._stream.read_many(ranges), strict=True))
            self._pages.update(fresh)
            pages |= fresh
        total = self._stream.size - self._table_size

        def chunk_start(bound: int) -> int:
            if not 0 < bound < self._count:
                return total if bound else 0
            page, index = divmod(bound - 1, _OFFSETS_PER_PAGE)
            position = index * self._entry_size
            return int.from_bytes(pages[page][position : position + self._entry_size], "little")

        chunk_ranges: list[Range] = []
        for number in numbers:
            start, end = chunk_start(number), chunk_start(number + 1)
            if not start < end <= total or end - start > self._uncompressed_size(number):
                raise Corrupt(
                    f"{self.name}: chunk {number} lies at {start} to {end} of {total} bytes",
                    hint=_DAMAGED,
                )
            chunk_ranges.append((self._table_size + start, end - start))
        return chunk_ranges
