"""Several questions at once, whose reads share round trips.

Each question runs on a thread of its own, but only one of them at a time, until it needs bytes that
are not at hand. When all of them wait, what they wait for is fetched in one request, by the thread
that asked; then each goes on in its turn. So nothing is left to chance: the same questions make the
same requests in the same order, and the readers above need no locks, for a question is only ever
interrupted at a read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar, cast

Want = TypeVar("Want")
Found = TypeVar("Found")

Question = Callable[[], object]

_MOST = 512
"""How many questions one of them may lead to; the others are asked later, one by one."""


class _Abandoned(BaseException):
    """Ends a question whose bytes will not come."""


class _Running(threading.local):
    question: _Asked | None = None


_running = _Running()


class Rounds(Generic[Want, Found]):
    """Asks questions in rounds. `fetch` gets what all of them want, and gives what was found."""

    def __init__(self, fetch: Callable[[list[Want]], Found]) -> None:
        self._fetch = fetch

    def ahead(self, questions: Iterable[Question]) -> None:
        """Ask all of them; answers and failures are dropped.

        Within a question others are only added: they run beside it from its next read on.
        """
        asked = _running.question
        if asked is None:
            _Run(self._fetch, questions).go()
        elif asked.run.fetch == self._fetch:
            asked.run.add(questions)

    def fetch(self, want: Want) -> Found:
        """What is wanted: in the next round within a question, else at once."""
        asked = _running.question
        if asked is None or asked.run.fetch != self._fetch:
            return self._fetch([want])
        return cast(Found, asked.wait(want))


class _Run:
    """Questions that run together, and those that they lead to."""

    def __init__(self, fetch: Callable[..., object], questions: Iterable[Question]) -> None:
        self.fetch = fetch
        self._asked: list[_Asked] = []
        self._count = 0
        self.add(questions)

    def add(self, questions: Iterable[Question]) -> None:
        for question in questions:
            self._count += 1
            if self._count > _MOST:
                return
            self._asked.append(_Asked(self, question))

    def go(self) -> None:
        try:
            while self._asked:
                for asked in self._asked:  # which grows meanwhile
                    asked.go_on()
                self._asked = [asked for asked in self._asked if not asked.finished]
                if self._asked:
                    found = self.fetch([asked.want for asked in self._asked])
                    for asked in self._asked:
                        asked.found = found
        finally:
            for asked in self._asked:
                asked.abandon()


class _Asked:
    """A question on its thread: it runs from `go_on` to its next `wait`, or to its end."""

    def __init__(self, run: _Run, question: Question) -> None:
        self.run = run
        self.want: object = None
        self.found: object = None
        self.finished = False
        self._question = question
        self._abandoned = False
        self._turn = threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        self._thread: threading.Thread | None = None

    def go_on(self) -> None:
        """Let it run until it waits or ends."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="question", daemon=True)
            thread.start()  # interrupted here, it is abandoned, and nobody can join it
            self._thread = thread
        else:
            self._turn.release()
        while not self._done.acquire(timeout=1):  # on Windows only a time limit lets Ctrl-C in
            pass

    def wait(self, want: object) -> object:
        """Within its thread: let others run until what is wanted was fetched."""
        if not self._abandoned:
            self.want = want
            self._done.release()
            self._turn.acquire()
        if self._abandoned:
            raise _Abandoned
        return self.found

    def abandon(self) -> None:
        """End it at the read that it waits for."""
        self._abandoned = True
        self._turn.release()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        _running.question = self
        try:
            self._question()
        except BaseException:  # noqa: S110  # whoever asks again hears of it
            pass
        finally:
            self.finished = True
            self._done.release()
