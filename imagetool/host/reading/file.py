"""A file of a host as a source: reads become pages, with readahead.

Neighbours of missing pages are read as well: sibling index blocks lie there, and registry cells
that were written together. Sequential reads double the readahead each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from imagetool.budget import Budget
from imagetool.contracts import Range, Task
from imagetool.errors import CannotOpen
from imagetool.host.reading.open_errors import BUSY_WARNING
from imagetool.host.reading.pages import (
    MAX_PROFILE_PAGES,
    MAX_REQUEST_BYTES,
    PAGE_SIZE,
    AccessProfile,
    pages_of,
)

if TYPE_CHECKING:
    from imagetool.host.reading.files import HostFiles

T = TypeVar("T")

_MAX_PART_BYTES = MAX_REQUEST_BYTES - PAGE_SIZE  # a part may begin within a page
_MIN_READAHEAD_PAGES = 8
"""Pages read around each isolated page at least, however many there are in one request."""


class HostFile:
    """A file of a host, open for reading (imagetool.contracts.OpenFile)."""

    __slots__ = ("_next_page", "_open", "_predicted", "_profile", "_readahead", "_touched",
                 "budget", "files", "name", "number", "path", "size", "warnings")  # fmt: skip

    def __init__(
        self,
        files: HostFiles,
        number: int,
        path: str,
        size: int,
        busy: bool,
        profile: AccessProfile,
        predicted: frozenset[int],
    ) -> None:
        self.files = files
        self.number = number
        self.path = path
        self.name = files.display_name(path)
        self.size = size
        self.budget = Budget()
        self.warnings: tuple[str, ...] = (BUSY_WARNING,) if busy else ()
        self._profile = profile
        self._predicted = predicted
        self._touched: set[int] = set()
        self._next_page = -1
        self._readahead = 0
        self._open = True

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return self.read_many([(offset, length)])[0]

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many: one request for all pages that are not cached."""
        if not self._open:
            raise CannotOpen(f"{self.name}: the file was closed")
        bounded = [
            (offset, max(0, min(length, self.size - offset))) if offset >= 0 else (0, 0)
            for offset, length in ranges
        ]
        if sum(length for _, length in bounded) > MAX_REQUEST_BYTES:
            return [self._read_in_parts(*item) for item in bounded]
        wanted = dict.fromkeys(page for item in bounded for page in pages_of(*item))
        if len(self._touched) <= MAX_PROFILE_PAGES:  # more are not predicted
            self._touched.update(wanted)
        pages = self.files.read_pages(self, wanted)
        return [_slice_pages(pages, *item) for item in bounded]

    def _read_in_parts(self, offset: int, length: int) -> bytes:
        data, end = bytearray(), offset + length
        for start in range(offset, end, _MAX_PART_BYTES):
            data += self.read_many([(start, min(_MAX_PART_BYTES, end - start))])[0]
        return bytes(data)

    def readahead_pages(self, missing: set[int], isolated: set[int], window: int) -> list[int]:
        """Return the numbers of pages worth fetching with the missing ones.

        `isolated` are those of reads with few ranges, as a search tree is descended: around each,
        `window` pages, a third of them before it. Behind every missing page the next one, for a
        record may end on it. Where `missing` continues the last request: only pages behind
        it, twice as many each time.
        """
        if not missing:
            return []
        first, last = min(missing), max(missing)
        if first == self._next_page:
            more = max(2 * self._readahead, window)
            self._readahead = max(0, min(more, MAX_REQUEST_BYTES // PAGE_SIZE - len(missing)))
            around = set(range(last + 1, last + 1 + self._readahead))
        else:
            self._readahead = 0
            window = max(_MIN_READAHEAD_PAGES, window)
            near = range(-(window // 3), window - window // 3)
            around = {page + 1 for page in missing}
            around |= {page + distance for page in isolated for distance in near}
        end = -(-self.size // PAGE_SIZE)
        around = {page for page in around - missing if 0 <= page < end}
        self._next_page = max(around, default=last) + 1
        return sorted(around)

    def gather(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """As OpenFile.gather: their reads share requests."""
        return self.files.gather(tasks)

    def prefetch(self, tasks: Iterable[Task]) -> None:
        """As OpenFile.prefetch."""
        self.files.prefetch(tasks)

    def close(self) -> None:
        """As OpenFile.close."""
        if self._open:
            self._open = False
            self._profile.update(self._predicted, self._touched)
            self.files.close_file(self)

    def __enter__(self) -> HostFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _slice_pages(pages: Mapping[int, bytes], offset: int, length: int) -> bytes:
    touched = pages_of(offset, length)
    start = offset % PAGE_SIZE
    if len(touched) == 1:
        return pages[touched[0]][start : start + length]
    return b"".join(pages[page] for page in touched)[start : start + length]
