"""A stack of clean-up actions that run however the work ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from imagetool.errors import ImagetoolError, LeftBehind

_INTERRUPTIONS = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals that end the program; Windows has no SIGHUP."""


@dataclass(frozen=True, slots=True, eq=False)
class CleanupAction:
    """An action that reverts one step, and the name of what is left behind if it fails."""

    leftover: str
    run: Callable[[], object]


class CleanupStack:
    """A stack of clean-up actions. Leaving the context runs those that remain, newest first.

    Raises LeftBehind where one of them fails; the others run all the same. Signals are ignored
    while they run: an interrupted clean-up would leave things behind.
    """

    def __init__(self) -> None:
        self._stack: list[CleanupAction] = []

    def push(self, leftover: str, run: Callable[[], object]) -> CleanupAction:
        """Add the action that reverts the step which is about to begin."""
        action = CleanupAction(leftover, run)
        self._stack.append(action)
        return action

    def keep(self, action: CleanupAction) -> None:
        """Drop an action: its step is not reverted."""
        self._stack.remove(action)

    def run_now(self, action: CleanupAction) -> None:
        """Run an action as part of the work, and drop it; where it fails it remains, and raises."""
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
                hint="Take it away by hand where it lies.",
            ) from error


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
