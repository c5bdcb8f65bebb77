"""The files of a host, read through its session, in as few requests as can be.

What a reader asks for in one batch is one request, whatever the number of ranges, and so is what
several questions ask for at once. Pages are kept, up to a bound. The figures are in
docs/architecture.md ("Reading over a wire").
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from imagetool.errors import CannotOpen, EmptyFile, HostFailed
from imagetool.host.answers import CmdletFailed
from imagetool.host.reading import paths
from imagetool.host.reading.file import HostFile
from imagetool.host.reading.opening import explain
from imagetool.host.reading.pages import (
    MOST_AT_ONCE,
    PAGE,
    Habit,
    Pages,
    Range,
    merged,
    pages_of,
    places_in,
    unpacked,
)
from imagetool.host.reading.rounds import Question, Rounds

if TYPE_CHECKING:
    from imagetool.host.answers import Result
    from imagetool.host.session import Session

KEPT = 32 << 20
"""How many bytes of pages are kept, of all files together."""
_AROUND = 16
"""How many pages around what is missing one request brings with it, as a rule: 64 KB."""

_LONGEST_WALK = 2
"""In how many places one read may miss bytes and still be a step of a walk: who asks for more has a
list, and knows what it needs."""

_numbers = itertools.count(1)

Place = tuple[int, int]
"""The number of a file, and that of a page in it."""
Found = Mapping[Place, bytes]


class HostFiles:
    """The files of the host that a session leads to (imagetool.disk.files.Files).

    `host` is what people call it, in front of a path. With `linger` a closed file is let go of when
    the next one is opened, or with the session: that saves an exchange a file, and suits whoever
    only reads. Once the session has failed nothing more is asked of it.
    """

    def __init__(self, session: Session, host: str = "", *, linger: bool = False) -> None:
        self.session = session
        self.host = host
        self._linger = linger
        self._free: list[int] = []
        self._pages = Pages(KEPT // PAGE)
        self._habits: dict[str, Habit] = {}
        self._lock = threading.RLock()
        self._lost: HostFailed | None = None
        self._rounds: Rounds[tuple[HostFile, Sequence[int]], Found] = Rounds(self._fetch)

    # Paths

    def folder(self, path: str) -> str:
        """As Files.folder, by the rules of the host's system; links are not followed."""
        return paths.folder_of(path, self.session.on_windows)

    def join(self, folder: str, name: str) -> str:
        """As Files.join."""
        return paths.joined(folder, name, self.session.on_windows)

    def canonical(self, path: str) -> str:
        """As Files.canonical."""
        return paths.canonical(path, self.session.on_windows)

    def called(self, path: str) -> str:
        """What people call a file there: HOST:PATH."""
        return f"{self.host}:{path}" if self.host else path

    def find(self, pattern: str) -> list[str]:
        """The paths that fit a pattern, in one request. Raises HostFailed."""
        try:
            found = self._operate(self.called(pattern), "find", pattern=pattern).get("paths")
        except CmdletFailed as error:
            raise self._explain(pattern, error) from None
        return sorted(map(str, found)) if isinstance(found, list) else []

    def _explain(self, path: str, error: CmdletFailed) -> HostFailed | CannotOpen:
        return explain(self.called(path), path, error, self.session.on_windows)

    # Opening and closing

    def open(self, path: str, expected: Sequence[Range] = ()) -> HostFile:
        """As Files.open: one request, which brings what is expected as well.

        Raises NoFile, EmptyFile, CannotOpen, HostFailed.
        """
        name = self.called(path)
        habit = self._habits.setdefault(path.rpartition(".")[2].lower()[:8], Habit())
        guess = habit.guess()
        pages = guess.union(*(pages_of(*item) for item in expected))
        with self._lock:
            number = self._free.pop() if self._free else next(_numbers)
            stretches = merged(pages, MOST_AT_ONCE)
            try:
                answer = self._operate(
                    name,
                    "open",
                    file=number,
                    path=path,
                    ranges=[value for item in stretches for value in (number, *item)],
                )
            except CmdletFailed as error:
                self._free.append(number)
                raise self._explain(path, error) from None
            size = answer.get("size")
            if isinstance(size, bool) or not isinstance(size, int) or size < 0:
                raise self._fails(HostFailed(f"{name}: the host says that its size is {size!r}"))
            file = HostFile(self, number, path, size, answer.get("busy") is True, habit, guess)
            target = answer.get("target")
            if isinstance(target, str) and target:
                file.path = target  # parents lie beside the file itself, not beside a link to it
            self._take(answer, [(file, *item) for item in stretches])
        if not size:
            file.close()
            raise EmptyFile(
                f"{name}: the file is empty", hint="Copy it again: the copy may have failed."
            )
        return file

    def closed(self, file: HostFile) -> None:
        """A file was closed: its pages go, and it is let go of on the host, now or later."""
        with self._lock:
            self._pages.forget(file.number)
            self._free.append(file.number)
            if not self._linger:
                self.release()

    def release(self) -> None:
        """Let the host let go of the files that were closed here."""
        with self._lock:
            while self._free:
                with suppress(HostFailed):
                    self._operate("", "shut", file=self._free.pop())

    # Reading

    def pages(self, file: HostFile, wanted: Iterable[int]) -> dict[int, bytes]:
        """These pages of a file: those at hand, the others in one request or the next round."""
        found: dict[int, bytes] = {}
        missing: list[int] = []
        with self._lock:
            for page in wanted:
                data = self._pages.get(file.number, page)
                if data is None:
                    missing.append(page)
                else:
                    found[page] = data
        if missing:
            fetched = self._rounds.fetch((file, missing))
            for page in missing:
                found[page] = fetched[file.number, page]
        return found

    def ahead(self, questions: Iterable[Question]) -> None:
        """As OpenFile.ahead."""
        with suppress(HostFailed, CannotOpen):  # who asks again hears of it
            self._rounds.ahead(questions)

    def _fetch(self, wants: Sequence[tuple[HostFile, Sequence[int]]]) -> Found:
        """What several readers miss, and what is likely to be missed next, in one request.

        In several only where it is more than one answer should hold.
        """
        with self._lock:
            found: dict[Place, bytes] = {}
            missing: dict[HostFile, set[int]] = {}
            walks: dict[HostFile, set[int]] = {}
            for file, pages in wants:
                fresh = set[int]()
                for page in pages:
                    data = self._pages.get(file.number, page)
                    if data is None:
                        fresh.add(page)
                    else:
                        found[file.number, page] = data
                missing.setdefault(file, set()).update(fresh)
                if places_in(fresh) <= _LONGEST_WALK:
                    walks.setdefault(file, set()).update(fresh)
            room = MOST_AT_ONCE // PAGE - sum(map(len, missing.values()))
            count = sum(map(places_in, walks.values()))
            stretches: list[tuple[HostFile, int, int]] = []
            for file, needed in missing.items():
                near = file.around(needed, walks.get(file, set()), _AROUND // max(count, 1))
                around = [page for page in near if not self._pages.has(file.number, page)]
                around = around[: max(room, 0)]
                room -= len(around)
                stretches += [(file, *item) for item in merged(needed.union(around), MOST_AT_ONCE)]
            for part in _portions(stretches):
                ranges = [value for file, *item in part for value in (file.number, *item)]
                try:
                    answer = self._operate(part[0][0].name, "ranges", ranges=ranges)
                except CmdletFailed as error:
                    raise CannotOpen(
                        f"{part[0][0].name}: reading it on the host failed: {error.message}",
                        hint="Check the disk or share that the file lies on.",
                    ) from None
                found |= self._take(answer, part)
            return found

    def _take(self, answer: Result, stretches: Sequence[tuple[HostFile, int, int]]) -> Found:
        """The pages in an answer, which are kept. Raises HostFailed where it is no answer."""
        wanted = [max(0, min(length, file.size - place)) for file, place, length in stretches]
        lengths = answer.get("lengths")
        if isinstance(lengths, list) and len(lengths) == len(wanted):
            for (file, place, _), length, right in zip(stretches, lengths, wanted, strict=True):
                if isinstance(length, int) and 0 <= length < right:
                    raise CannotOpen(
                        f"{file.name}: {right} bytes at offset {place} could not be read: the file "
                        "has become shorter while it was read",
                        hint="Somebody changes it: wait, then read it again.",
                    )
        try:
            parts = unpacked(answer.data, lengths, wanted, self.host)
        except HostFailed as error:
            raise self._fails(error) from None
        found: dict[Place, bytes] = {}
        for (file, place, _), data in zip(stretches, parts, strict=True):
            for start in range(0, len(data), PAGE):
                page = (place + start) // PAGE
                found[file.number, page] = data[start : start + PAGE]
                self._pages.keep(file.number, page, found[file.number, page])
        return found

    def _operate(self, name: str, operation: str, **parameters: Any) -> Result:
        if self._lost is not None:
            raise HostFailed(
                f"{name}: not read, for the host failed before: {self._lost.message}",
                hint=self._lost.hint,
            )
        try:
            return self.session.operate(operation, **parameters)
        except CmdletFailed:
            raise
        except HostFailed as error:
            raise self._fails(error) from None

    def _fails(self, error: HostFailed) -> HostFailed:
        """From now on nothing is asked of the host."""
        self._lost = error
        return error


def _portions(
    stretches: Sequence[tuple[HostFile, int, int]],
) -> list[list[tuple[HostFile, int, int]]]:
    """Requests that ask for a bounded number of bytes each."""
    portions: list[list[tuple[HostFile, int, int]]] = []
    room = 0
    for item in stretches:
        if item[2] > room:
            portions.append([])
            room = MOST_AT_ONCE
        portions[-1].append(item)
        room -= item[2]
    return portions
