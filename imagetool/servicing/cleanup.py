"""What must be taken back: a stack of undoings that runs whatever happens."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from imagetool.errors import ImagetoolError, LeftBehind


@dataclass(frozen=True, slots=True, eq=False)
class CleanupAction:
    """One thing to take back: what it leaves behind if it fails, and the action."""

    leftover: str
    run: Callable[[], object]


class CleanupStack:
    """Undoings, the newest first. Leaving the context runs those that are still there.

    Raises LeftBehind where one of them fails; the others run all the same. Ctrl-C is held off
    while they run: interrupting the clean-up is how things are left behind.
    """

    def __init__(self) -> None:
        self._stack: list[CleanupAction] = []

    def push(self, leftover: str, run: Callable[[], object]) -> CleanupAction:
        """Remember how to take back what is about to be done."""
        action = CleanupAction(leftover, run)
        self._stack.append(action)
        return action

    def keep(self, action: CleanupAction) -> None:
        """What was done stays."""
        self._stack.remove(action)

    def run_now(self, action: CleanupAction) -> None:
        """Take one thing back as part of the work: a failure is the work's."""
        action.run()
        self._stack.remove(action)

    def __enter__(self) -> CleanupStack:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        left: list[str] = []
        with ignore_interrupts():
            while self._stack:
                action = self._stack.pop()
                try:
                    action.run()
                except ImagetoolError as failure:
                    left.append(f"{action.leftover} ({failure.message})")
        if left:
            after = f"{error}; then " if isinstance(error, ImagetoolError) else ""
            raise LeftBehind(
                f"{after}this was left behind: {'; '.join(left)}",
                hint="Take it away by hand where it lies; `imagetool recover` comes later.",
            ) from error


@contextmanager
def ignore_interrupts() -> Iterator[None]:
    """Hold Ctrl-C off: what runs inside is short, and half of it would be worse than none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
