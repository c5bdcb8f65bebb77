"""Tasks that run together, so that their reads share round trips.

Each task runs on a thread of its own, but only one of them at a time, until it needs bytes that are
not at hand. When all of them wait, what they wait for is fetched in one request, by the thread that
began; then each goes on in its turn. So nothing is left to chance: the same tasks make the same
requests in the same order, and the readers above need no locks, for a task is only ever interrupted
at a read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar, cast

from imagetool.contracts import Task
from imagetool.errors import CannotOpen, HostFailed

Want = TypeVar("Want")
Found = TypeVar("Found")
T = TypeVar("T")

MAX_TASKS = 512
"""Tasks that run at the same time; `gather` runs further ones one by one, after them."""


class _Abandoned(BaseException):
    """Ends a task whose bytes will not come."""


class _Current(threading.local):
    task: _RunningTask | None = None


_current = _Current()


class ReadBatcher(Generic[Want, Found]):
    """Runs tasks together. `fetch` gets what all of them want, and gives what was found."""

    def __init__(self, fetch: Callable[[list[Want]], Found]) -> None:
        self._fetch = fetch

    def gather(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """Run the tasks together, and return their results in order.

        When all have ended, the first failure in that order is raised. Within a task the others
        join those that run already, and it waits for them.
        """
        parent = self._current_task()
        run = _Run(self._fetch) if parent is None else parent.run
        started = [run.add(task) for task in tasks[: run.room]]
        if parent is None:
            run.until_ended(started)
        else:
            parent.wait_for_tasks(started)
        failures = [task.failure for task in started if task.failure is not None]
        if failures:
            raise failures[0]
        # What is beyond the bound runs here, one by one.
        return [cast(T, task.result) for task in started] + [
            task() for task in tasks[len(started) :]
        ]

    def prefetch(self, tasks: Iterable[Task]) -> None:
        """Start tasks for the sake of what they read; their results and failures are dropped.

        Within a task they run beside it from its next read on; else until they end.
        """
        parent = self._current_task()
        run = _Run(self._fetch) if parent is None else parent.run
        started = [run.add(task) for task, _ in zip(tasks, range(run.room), strict=False)]
        if parent is None:
            run.until_ended(started)

    def fetch(self, want: Want) -> Found:
        """Return what is wanted: with what other tasks want, else at once."""
        task = self._current_task()
        return self._fetch([want]) if task is None else cast(Found, task.wait_for_bytes(want))

    def _current_task(self) -> _RunningTask | None:
        """Return the task on whose thread this is called, where it is one of this batcher."""
        task = _current.task
        return task if task is not None and task.run.fetch == self._fetch else None


class _Run:
    """Tasks that run together, and those that they start."""

    def __init__(self, fetch: Callable[..., object]) -> None:
        self.fetch = fetch
        self._tasks: list[_RunningTask] = []

    @property
    def room(self) -> int:
        """The number of tasks that may still be started."""
        return max(0, MAX_TASKS - len(self._tasks))

    def add(self, task: Callable[[], object]) -> _RunningTask:
        started = _RunningTask(self, task)
        self._tasks.append(started)
        return started

    def until_ended(self, tasks: Sequence[_RunningTask]) -> None:
        """Run everything until these have ended; what was only prefetching ends there as well."""
        try:
            while True:
                while self._go_on():
                    pass
                if all(task.ended for task in tasks):
                    return
                self._fetch_for([task for task in self._tasks if task.wants_bytes])
        finally:
            for task in self._tasks:
                task.abandon()

    def _go_on(self) -> bool:
        """Let each task that can run do so, once; return whether there was one."""
        went_on = False
        for task in self._tasks:  # which grows meanwhile
            if task.can_run:
                task.go_on()
                went_on = True
        self._tasks = [task for task in self._tasks if not task.ended]
        return went_on

    def _fetch_for(self, tasks: Sequence[_RunningTask]) -> None:
        try:
            found = self.fetch([task.want for task in tasks])
        except HostFailed as error:  # nothing more will come from there
            for task in tasks:
                task.give(None, error)
        except CannotOpen as error:
            if len(tasks) == 1:
                tasks[0].give(None, error)
                return
            for task in tasks:  # which of them it is
                self._fetch_for([task])
        else:
            for task in tasks:
                task.give(found, None)


class _RunningTask:
    """A task on its thread: it runs from `go_on` until it waits, or to its end."""

    def __init__(self, run: _Run, task: Callable[[], Any]) -> None:
        self.run = run
        self.want: object = None
        self.result: Any = None
        self.failure: BaseException | None = None
        self.ended = False
        self.wants_bytes = False
        self._task = task
        self._awaited: Sequence[_RunningTask] = ()
        self._bytes: object = None
        self._read_failure: Exception | None = None
        self._abandoned = False
        self._turn = threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        self._thread: threading.Thread | None = None

    @property
    def can_run(self) -> bool:
        """True where it waits neither for bytes nor for other tasks."""
        return not (self.ended or self.wants_bytes) and all(task.ended for task in self._awaited)

    def go_on(self) -> None:
        """Let it run until it waits or ends."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="task", daemon=True)
            thread.start()  # interrupted here, it is abandoned, and nobody can join it
            self._thread = thread
        else:
            self._turn.release()
        while not self._done.acquire(timeout=1):  # on Windows only a time limit lets Ctrl-C in
            pass

    def give(self, found: object, failure: Exception | None) -> None:
        """Hand it what it waits for, or why that cannot be had."""
        self._bytes, self._read_failure = found, failure
        self.wants_bytes = False

    def abandon(self) -> None:
        """End it at the read that it waits for."""
        self._abandoned = True
        self._turn.release()
        if self._thread is not None:
            self._thread.join()

    # On its own thread

    def wait_for_bytes(self, want: object) -> object:
        """Let others run until what is wanted was fetched; raise why it could not be."""
        self.want = want
        self.wants_bytes = True
        self._wait()
        if self._read_failure is not None:
            raise self._read_failure
        return self._bytes

    def wait_for_tasks(self, tasks: Sequence[_RunningTask]) -> None:
        """Let others run until these have ended."""
        self._awaited = tasks
        if not self.can_run:
            self._wait()
        self._awaited = ()

    def _wait(self) -> None:
        if not self._abandoned:
            self._done.release()
            self._turn.acquire()
        if self._abandoned:
            raise _Abandoned

    def _run(self) -> None:
        _current.task = self
        try:
            self.result = self._task()
        except BaseException as error:  # raised where the result is asked for
            self.failure = error
        finally:
            self.ended = True
            self._done.release()
