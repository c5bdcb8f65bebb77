"""Errors on standard error: one sentence, one hint, and with --debug a traceback."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from imagetool.errors import ImagetoolError
from imagetool.report.text import safe

_shown = [False]


def show_tracebacks(shown: bool) -> None:
    """Print a traceback with every failure from now on, or not (--debug)."""
    _shown[0] = shown


def print_traceback(error: BaseException) -> None:
    """Print the traceback of `error`, if tracebacks are shown."""
    if _shown[0]:
        import traceback

        traceback.print_exception(error)


def report_failure(error: ImagetoolError) -> int:
    """Print an error and its hint on standard error; return its exit code."""
    typer.echo(f"imagetool: {safe(error.message)}", err=True)
    if error.hint:
        typer.echo(f"hint: {safe(error.hint)}", err=True)
    print_traceback(error)
    return error.exit_code


def report_warnings(name: str, warnings: Iterable[str]) -> None:
    """Print warnings about an image on standard error, where the result itself has no room."""
    for text in warnings:
        typer.echo(f"warning: {safe(name)}: {safe(text)}", err=True)
