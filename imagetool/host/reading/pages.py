"""Pages of a host's files: page arithmetic, their cache, access profiles, decoding of answers."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from imagetool.contracts import Range
from imagetool.errors import HostFailed

PAGE_SIZE = 4096
MAX_REQUEST_BYTES = 4 << 20
"""Bytes that one request asks for at most; the script refuses more than four times as many."""
MAX_PROFILE_PAGES = 512
"""Pages that an access profile predicts at most: 2 MB, before compression."""


class PageCache:
    """A least recently used cache of pages, by file number and page number."""

    def __init__(self, max_pages: int) -> None:
        self._max_pages = max_pages
        self._cached: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def get(self, file: int, page: int) -> bytes | None:
        """Return a page, or None where it is not cached."""
        key = (file, page)
        data = self._cached.get(key)
        if data is not None:
            self._cached.move_to_end(key)
        return data

    def has(self, file: int, page: int) -> bool:
        """True if the page is cached."""
        return (file, page) in self._cached

    def put(self, file: int, page: int, data: bytes) -> None:
        """Cache a page, and drop the least recently used ones beyond the limit."""
        self._cached[file, page] = data
        self._cached.move_to_end((file, page))
        while len(self._cached) > self._max_pages:
            self._cached.popitem(last=False)

    def discard_file(self, file: int) -> None:
        """Drop the pages of a file."""
        for key in [key for key in self._cached if key[0] == file]:
            del self._cached[key]

    def __len__(self) -> int:
        return len(self._cached)


class AccessProfile:
    """The pages that were read of the last file of a kind, as a prediction for the next one.

    Images cloned from one template have their tables and hives at the same offsets. After a
    prediction of which less than half was read there is no further one.
    """

    __slots__ = ("_pages", "_trusted")

    def __init__(self) -> None:
        self._pages: frozenset[int] = frozenset()
        self._trusted = True

    def predicted_pages(self) -> frozenset[int]:
        """Return the numbers of the pages to fetch when the next file is opened."""
        return self._pages if self._trusted else frozenset()

    def update(self, predicted: frozenset[int], touched: set[int]) -> None:
        """Learn from a closed file: `touched` were read, `predicted` were fetched in advance."""
        if 2 * len(predicted & touched) < len(predicted):
            self._trusted = False
        if touched:
            self._pages = frozenset(touched) if len(touched) <= MAX_PROFILE_PAGES else frozenset()


def pages_of(offset: int, length: int) -> range:
    """Return the numbers of the pages that a range lies on."""
    return (
        range(offset // PAGE_SIZE, (offset + length - 1) // PAGE_SIZE + 1)
        if length > 0
        else range(0)
    )


def count_runs(pages: set[int]) -> int:
    """Return the number of runs of consecutive pages."""
    return sum(page - 1 not in pages for page in pages)


def coalesce_pages(pages: Iterable[int], max_length: int) -> list[Range]:
    """Return byte ranges that cover these pages, ascending, each of `max_length` bytes at most."""
    found: list[Range] = []
    for page in sorted(set(pages)):
        start, length = found[-1] if found else (0, 0)
        if found and start + length == page * PAGE_SIZE and length + PAGE_SIZE <= max_length:
            found[-1] = (start, length + PAGE_SIZE)
        else:
            found.append((page * PAGE_SIZE, PAGE_SIZE))
    return found


def decode_ranges(
    data: bytes, lengths: object, expected_lengths: Sequence[int], host: str
) -> list[bytes]:
    """Inflate the ranges of an answer; `expected_lengths` are clipped to the end of the file.

    Nothing beyond these is inflated. Raises HostFailed for other lengths and malformed data.
    """
    if not isinstance(lengths, list) or len(lengths) != len(expected_lengths):
        raise _malformed_answer(host, f"{len(expected_lengths)} ranges were asked for")
    for length, right in zip(lengths, expected_lengths, strict=True):
        if length != right:
            raise _malformed_answer(host, f"of {right} bytes it sent {length!r}")
    total = sum(expected_lengths)
    try:
        packer = zlib.decompressobj(-zlib.MAX_WBITS)
        plain = packer.decompress(data, total + 1)
    except zlib.error:
        raise _malformed_answer(host, "its bytes cannot be unpacked") from None
    if len(plain) != total or (total and not packer.eof):  # .NET writes no stream for no bytes
        raise _malformed_answer(host, f"{total} bytes were announced")
    parts: list[bytes] = []
    offset = 0
    for length in expected_lengths:
        parts.append(plain[offset : offset + length])
        offset += length
    return parts


def _malformed_answer(host: str, what: str) -> HostFailed:
    return HostFailed(
        f"{host or 'the host'} answered a read with something else than was asked for: {what}",
        hint="Another version of the session's script may run there, or something in between.",
    )
