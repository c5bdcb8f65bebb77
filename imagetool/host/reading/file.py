"""A file of a host as a source: its ranges as pages, and what is worth reading around them.

Around what is missing its neighbours are read as well: an index block's siblings lie there, and the
cells that were written together. Where somebody reads on and on, more and more of what follows is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from imagetool.errors import CannotOpen
from imagetool.host.reading.opening import BUSY
from imagetool.host.reading.pages import LARGEST_GUESS, MOST_AT_ONCE, PAGE, Habit, Range, pages_of
from imagetool.host.reading.rounds import Question

if TYPE_CHECKING:
    from imagetool.host.reading.files import HostFiles

_PORTION = MOST_AT_ONCE - PAGE  # which may begin within a page
_LEAST_AROUND = 8
"""How many pages are read around each step, where these are many."""


class HostFile:
    """A file of a host, open for reading (imagetool.disk.files.OpenFile)."""

    __slots__ = ("_ahead", "_end", "_guess", "_habit", "_open", "_touched", "files", "name",
                 "number", "path", "size", "warnings")  # fmt: skip

    def __init__(
        self,
        files: HostFiles,
        number: int,
        path: str,
        size: int,
        busy: bool,
        habit: Habit,
        guess: frozenset[int],
    ) -> None:
        self.files = files
        self.number = number
        self.path = path
        self.name = files.called(path)
        self.size = size
        self.warnings: tuple[str, ...] = (BUSY,) if busy else ()
        self._habit = habit
        self._guess = guess
        self._touched: set[int] = set()
        self._end = -1
        self._ahead = 0
        self._open = True

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return self.read_many([(offset, length)])[0]

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many: one request for all that is not at hand."""
        if not self._open:
            raise CannotOpen(f"{self.name}: the file was closed")
        bounded = [
            (offset, max(0, min(length, self.size - offset))) if offset >= 0 else (0, 0)
            for offset, length in ranges
        ]
        if sum(length for _, length in bounded) > MOST_AT_ONCE:
            return [self._in_portions(*item) for item in bounded]
        wanted = dict.fromkeys(page for item in bounded for page in pages_of(*item))
        if len(self._touched) <= LARGEST_GUESS:  # more is no guess any more
            self._touched.update(wanted)
        pages = self.files.pages(self, wanted)
        return [_cut(pages, *item) for item in bounded]

    def _in_portions(self, offset: int, length: int) -> bytes:
        data, end = bytearray(), offset + length
        for start in range(offset, end, _PORTION):
            data += self.read_many([(start, min(_PORTION, end - start))])[0]
        return bytes(data)

    def around(self, missing: set[int], walks: set[int], each: int) -> list[int]:
        """What is likely to be missed next.

        Around each step of a walk some `each` pages, before and behind; of a list the page behind
        each place, for what begins on one may end on the next. Where somebody reads on from where
        the last request ended, more and more of what follows.
        """
        if not missing:
            return []
        first, last = min(missing), max(missing)
        if first == self._end:
            more = max(2 * self._ahead, each)
            self._ahead = max(0, min(more, MOST_AT_ONCE // PAGE - len(missing)))
            around = set(range(last + 1, last + 1 + self._ahead))
        else:
            self._ahead = 0
            each = max(_LEAST_AROUND, each)
            near = range(-(each // 3), each - each // 3)
            around = {page + 1 for page in missing}
            around |= {page + distance for page in walks for distance in near}
        end = -(-self.size // PAGE)
        around = {page for page in around - missing if 0 <= page < end}
        self._end = max(around, default=last) + 1
        return sorted(around)

    def ahead(self, questions: Iterable[Question]) -> None:
        """As OpenFile.ahead: their reads share requests."""
        self.files.ahead(questions)

    def close(self) -> None:
        """As OpenFile.close."""
        if self._open:
            self._open = False
            self._habit.learn(self._guess, self._touched)
            self.files.closed(self)

    def __enter__(self) -> HostFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _cut(pages: Mapping[int, bytes], offset: int, length: int) -> bytes:
    touched = pages_of(offset, length)
    start = offset % PAGE
    if len(touched) == 1:
        return pages[touched[0]][start : start + length]
    return b"".join(pages[page] for page in touched)[start : start + length]
