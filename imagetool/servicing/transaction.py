"""A transaction: steps that are run one after the other, and undone from their records.

A step's record, its name with all its facts, goes to the journal before the step is done. So
whatever ends the work (a refusal, a cmdlet that fails, an interruption, a host that is gone), what
was begun is undone from the records alone, the newest first.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from imagetool.contracts import Event, Host
from imagetool.errors import Corrupt, HostFailed, ImagetoolError, ServicingFailed
from imagetool.host.answers import CmdletFailed
from imagetool.host.files import FileOperations
from imagetool.host.patience import NO_PATIENCE, Patience
from imagetool.servicing.plan import Facts, PlannedStep
from imagetool.servicing.steps import Work, step_kind, step_names

_INTERRUPTIONS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Signals that end the program; the last is that of Windows, which has no SIGHUP."""
_MAX_JOURNAL_SIZE = 64 << 20

DEFAULT_PATIENCE = Patience()


class StepRecord(NamedTuple):
    """The record of a step that is about to be done. `facts` is plain JSON."""

    name: str
    facts: Facts


class RecordSink(Protocol):
    """Takes the records of a transaction, each before its step is done."""

    def add(self, record: StepRecord) -> None:
        """Keep a record, for whoever has to undo it."""

    def commit(self) -> None:
        """Note that all steps are done: from now on nothing is undone."""


class RecordList:
    """A journal in memory."""

    def __init__(self) -> None:
        self.records: list[StepRecord] = []

    def add(self, record: StepRecord) -> None:
        """As RecordSink.add."""
        self.records.append(record)

    def commit(self) -> None:
        """As RecordSink.commit."""
        self.records.clear()


class JournalFile:
    """A journal in a file, a line of JSON for each record; a new file."""

    def __init__(self, path: str | Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def add(self, record: StepRecord) -> None:
        """As RecordSink.add: it is on the disk when this returns."""
        self._write({"step": record.name, "facts": record.facts})

    def commit(self) -> None:
        """As RecordSink.commit."""
        self._write({"committed": True})

    def _write(self, line: object) -> None:
        data = memoryview(f"{json.dumps(line)}\n".encode("ascii"))
        while data:
            data = data[os.write(self._descriptor, data) :]
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_journal(path: str | Path) -> list[StepRecord]:
    """Return the records of a journal file that are to be undone; none where it was committed.

    A last line that was cut off is left out: its step was not begun. Raises Corrupt, OSError.
    """
    records = []
    with Path(path).open("rb") as file:
        lines = file.read(_MAX_JOURNAL_SIZE).split(b"\n")
    for line in lines[:-1]:
        try:
            tree = json.loads(line)
            if tree.get("committed") is True:
                return []
            record = StepRecord(tree["step"], tree["facts"])
            known = record.name in step_names() and isinstance(record.facts, dict)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            known = False
        if not known:
            raise Corrupt(f"{path}: this is no journal of steps", hint="Name another file.")
        records.append(record)
    return records


class StepReport(NamedTuple):
    """A step that was done or begun: its name, its start in UTC, and its seconds."""

    name: str
    started_at: datetime
    seconds: float


class StepProgress(NamedTuple):
    """A step that begins, or a report of its host while it runs."""

    step: str
    title: str
    event: Event | None = None
    """None: the step begins."""


OnProgress = Callable[[StepProgress], None]


class Transaction:
    """Runs steps, and undoes them.

    `reopen` opens another session with the host, for the undoing where the first one has failed.
    From the step that ends the work on interruptions come too late: they are ignored until
    `until_the_end` is closed.
    """

    def __init__(
        self,
        work: Work,
        journal: RecordSink,
        reopen: Callable[[], Host],
        until_the_end: ExitStack,
        on_progress: OnProgress | None = None,
        patience: Patience = DEFAULT_PATIENCE,
    ) -> None:
        self._patience = patience
        self._work = work
        self._journal = journal
        self._reopen = reopen
        self._until_the_end = until_the_end
        self._on_progress = on_progress
        self._begun: list[StepRecord] = []
        self.reports: list[StepReport] = []
        self.warnings: list[str] = []
        """Warnings of cmdlets."""

    def run(self, steps: Iterable[PlannedStep]) -> None:
        """Run the steps. What fails in one is raised; `undo` is for the caller to call."""
        for step in steps:
            kind = step_kind(step.name)
            title = kind.title.format_map(step.facts)
            self._show(StepProgress(kind.name, title))
            self._work.on_event = self._event_handler(kind.name, title)
            self._work.patience = replace(self._patience, on_event=self._work.on_event)
            started_at, begun = datetime.now(UTC), time.monotonic()
            try:
                if kind.ends_the_work:
                    self._until_the_end.enter_context(ignore_interrupts())
                self._do(step)
                if kind.ends_the_work:
                    self._commit()
            finally:
                report = StepReport(kind.name, started_at, time.monotonic() - begun)
                self.reports.append(report)

    def _do(self, step: PlannedStep) -> None:
        kind = step_kind(step.name)
        record = StepRecord(step.name, kind.resolve(self._work, step.facts))
        self._begun.append(record)
        self._journal.add(record)
        kind.do(self._work, record.facts)

    def _commit(self) -> None:
        """End the journal; what was made for the work only remains to be undone."""
        self._journal.commit()
        self._begun = [record for record in self._begun if step_kind(record.name).scratch]

    def _show(self, progress: StepProgress) -> None:
        if self._on_progress is not None:
            self._on_progress(progress)

    def _event_handler(self, name: str, title: str) -> Callable[[Event], None]:
        def handle(event: Event) -> None:
            if event.kind == "warning":
                self.warnings.append(event.text)
            self._show(StepProgress(name, title, event))

        return handle

    def warn(self, text: str) -> None:
        """Tell a warning of what was seen before the steps; an empty text is none."""
        if text:
            self._event_handler("", "")(Event("warning", text))

    def undo(self) -> list[str]:
        """Undo what was begun, the newest first; return what is left, as it lies on the host.

        Interruptions are ignored meanwhile: an interrupted undoing would leave things behind.
        """
        patience = replace(self._patience, on_event=self._event_handler("undo", "undo"))
        with ignore_interrupts():
            left = undo_records(self._begun, self._work.host, self._reopen, patience)
        self._begun = []
        return left


def undo_records(
    records: Sequence[StepRecord],
    host: Host,
    reopen: Callable[[], Host] | None = None,
    patience: Patience = DEFAULT_PATIENCE,
) -> list[str]:
    """Undo steps from their records, the newest first; return what is left, in words.

    What cannot be undone is tried once more behind the others, without waiting: a directory is free
    when the disk in it is gone. Where the session has failed, another one undoes the rest.
    """
    with _Undoing(host, reopen) as undoing:
        undoing.close_files()
        failed = [item for item in reversed(records) if undoing.undo(item, patience) is not None]
        left: dict[str, None] = {}
        for record in failed:
            error = undoing.undo(record, NO_PATIENCE)
            if error is not None:
                left.update(dict.fromkeys(_remains(undoing.host, record, error)))
    return list(left)


class _Undoing:
    """The session through which steps are undone; another one where the first has failed."""

    def __init__(self, host: Host, reopen: Callable[[], Host] | None) -> None:
        self.host = host
        self._reopen = reopen
        self._stack = ExitStack()

    def undo(self, record: StepRecord, patience: Patience) -> ImagetoolError | None:
        """Undo a step; return the error for which that failed."""
        while True:
            try:
                step_kind(record.name).undo(self.host, record.facts, patience)
            except (CmdletFailed, ServicingFailed) as error:  # another session would not help
                return error
            except HostFailed as error:
                if not self._open_another():
                    return error
                continue
            return None

    def close_files(self) -> None:
        """Close what an interrupted read left open on the host: it would count as in use."""
        with suppress(HostFailed):  # another session has nothing open
            FileOperations(self.host).close_all()

    def _open_another(self) -> bool:
        """Open another session, once; False where that was tried, or fails."""
        reopen, self._reopen = self._reopen, None
        if reopen is None:
            return False
        try:
            self.host = reopen()
        except ImagetoolError:
            return False
        self._stack.callback(self.host.close)
        return True

    def __enter__(self) -> _Undoing:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def _remains(host: Host, record: StepRecord, error: ImagetoolError) -> Iterator[str]:
    """Name what of a step lies on the host, with the reason for which it could not be undone."""
    try:
        for item in step_kind(record.name).remains(host, record.facts):
            yield f"{item} ({error.message})"
    except ImagetoolError:
        where = next((record.facts[key] for key in ("path", "target", "directory", "image")
                      if key in record.facts), "")  # fmt: skip
        yield f"perhaps {where}, which could not be looked at ({error.message})"


@contextmanager
def ignore_interrupts() -> Iterator[None]:
    """Ignore interruptions inside the context, in the main thread: for work that must be whole."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in _INTERRUPTIONS if hasattr(signal, name)]
    before = [(number, signal.signal(number, signal.SIG_IGN)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
