"""How a failure is said: one sentence, one hint, and a traceback only for whoever asks."""

from __future__ import annotations

import typer

from imagetool.errors import ImagetoolError
from imagetool.report.text import safe

_shown = [False]


def show_tracebacks(shown: bool) -> None:
    """Whether failures come with a traceback (--debug)."""
    _shown[0] = shown


def print_traceback(error: BaseException) -> None:
    """The traceback, where it is wanted."""
    if _shown[0]:
        import traceback

        traceback.print_exception(error)


def report_failure(error: ImagetoolError) -> int:
    """Say a failure on standard error; its exit code."""
    typer.echo(f"imagetool: {safe(error.message)}", err=True)
    if error.hint:
        typer.echo(f"hint: {safe(error.hint)}", err=True)
    print_traceback(error)
    return error.exit_code
