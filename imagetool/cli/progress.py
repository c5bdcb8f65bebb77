"""A progress bar, only on a terminal, and only for work that takes longer than a second."""

from __future__ import annotations

import sys
import time

import typer

_DELAY = 1.0  # seconds until it is shown
_INTERVAL = 0.1  # seconds between two updates


class Progress:
    """A progress bar on standard error: a context manager that is called with the progress."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._started = self._shown = time.monotonic()
        self._enabled = sys.stderr.isatty()
        self._on_screen = False

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` is done."""
        now = time.monotonic()
        if not self._enabled or now - self._started < _DELAY or now - self._shown < _INTERVAL:
            return
        self._shown = now
        self._on_screen = True
        percent = 100 * done // total if total else 100
        bar = "#" * (percent // 4)
        typer.echo(f"\r{self._label} [{bar:<25}] {percent:3} %", nl=False, err=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._on_screen:
            typer.echo("\r\x1b[K", nl=False, err=True)
