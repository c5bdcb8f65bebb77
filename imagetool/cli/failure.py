"""How a failure is said: one sentence, one hint, and a traceback only for whoever asks."""

from __future__ import annotations

import typer

from imagetool.errors import ImagetoolError
from imagetool.report.text import safe

_wanted = [False]


def show_traceback(wanted: bool) -> None:
    """Whether failures come with a traceback (--debug)."""
    _wanted[0] = wanted


def tracebacks(error: BaseException) -> None:
    """The traceback, where it is wanted."""
    if _wanted[0]:
        import traceback

        traceback.print_exception(error)


def fail(error: ImagetoolError) -> int:
    """Say a failure on standard error; its exit code."""
    typer.echo(f"imagetool: {safe(error.message)}", err=True)
    if error.hint:
        typer.echo(f"hint: {safe(error.hint)}", err=True)
    tracebacks(error)
    return error.exit_code
