"""Pages of a host's files: which a read needs, those at hand, and how an answer is taken apart."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from imagetool.errors import HostFailed

PAGE = 4096
MOST_AT_ONCE = 4 << 20
"""How many bytes one request asks for; the script refuses more than four times as many."""
LARGEST_GUESS = 512
"""In pages: 2 MB, before they are packed."""

Range = tuple[int, int]


class Pages:
    """The pages that were used last, by file and number; bounded."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def get(self, file: int, page: int) -> bytes | None:
        """A page, if it is at hand."""
        key = (file, page)
        data = self._kept.get(key)
        if data is not None:
            self._kept.move_to_end(key)
        return data

    def has(self, file: int, page: int) -> bool:
        """Whether a page is at hand."""
        return (file, page) in self._kept

    def keep(self, file: int, page: int, data: bytes) -> None:
        """Keep a page; the one that was not used for the longest time may go."""
        self._kept[file, page] = data
        self._kept.move_to_end((file, page))
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def forget(self, file: int) -> None:
        """Forget the pages of a file."""
        for key in [key for key in self._kept if key[0] == file]:
            del self._kept[key]

    def __len__(self) -> int:
        return len(self._kept)


class Habit:
    """Which pages readers touched of the last file of its kind: a guess for the next one.

    Images that were cloned from one template have their tables and hives at the same places. After
    a guess of which less than half was of use there is no further one.
    """

    __slots__ = ("_pages", "_trusted")

    def __init__(self) -> None:
        self._pages: frozenset[int] = frozenset()
        self._trusted = True

    def guess(self) -> frozenset[int]:
        """What is worth bringing when the next file is opened."""
        return self._pages if self._trusted else frozenset()

    def learn(self, guess: frozenset[int], touched: set[int]) -> None:
        """What was touched of a file, for which `guess` had been brought."""
        if 2 * len(guess & touched) < len(guess):
            self._trusted = False
        if touched:
            self._pages = frozenset(touched) if len(touched) <= LARGEST_GUESS else frozenset()


def pages_of(offset: int, length: int) -> range:
    """The pages that a range lies on."""
    return range(offset // PAGE, (offset + length - 1) // PAGE + 1) if length > 0 else range(0)


def places_in(pages: set[int]) -> int:
    """In how many stretches these pages lie."""
    return sum(page - 1 not in pages for page in pages)


def merged(pages: Iterable[int], most: int) -> list[Range]:
    """Stretches that hold these pages, ascending, none longer than `most` bytes."""
    found: list[Range] = []
    for page in sorted(set(pages)):
        start, length = found[-1] if found else (0, 0)
        if found and start + length == page * PAGE and length + PAGE <= most:
            found[-1] = (start, length + PAGE)
        else:
            found.append((page * PAGE, PAGE))
    return found


def unpacked(data: bytes, lengths: object, wanted: Sequence[int], host: str) -> list[bytes]:
    """The ranges of an answer; `wanted` says their lengths, as far as the file goes.

    Nothing is inflated beyond these. Raises HostFailed for an answer that is not one.
    """
    if not isinstance(lengths, list) or len(lengths) != len(wanted):
        raise _wrong(host, f"{len(wanted)} ranges were asked for")
    for length, right in zip(lengths, wanted, strict=True):
        if length != right:
            raise _wrong(host, f"of {right} bytes it sent {length!r}")
    total = sum(wanted)
    try:
        packer = zlib.decompressobj(-zlib.MAX_WBITS)
        plain = packer.decompress(data, total + 1)
    except zlib.error:
        raise _wrong(host, "its bytes cannot be unpacked") from None
    if len(plain) != total or (total and not packer.eof):  # of no bytes .NET makes no stream
        raise _wrong(host, f"{total} bytes were announced")
    parts: list[bytes] = []
    place = 0
    for length in wanted:
        parts.append(plain[place : place + length])
        place += length
    return parts


def _wrong(host: str, what: str) -> HostFailed:
    return HostFailed(
        f"{host or 'the host'} answered a read with something else than was asked for: {what}",
        hint="Another version of the session's script may run there, or something in between.",
    )
