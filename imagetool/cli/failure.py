"""Errors on standard error: one sentence, one hint, and with --debug a traceback."""

from __future__ import annotations

import errno
from collections.abc import Iterable

import typer

from imagetool.budget import MAX_BYTES, MAX_OBJECTS, Budget
from imagetool.errors import BudgetSpent, CannotOpen, CannotWrite, ImagetoolError, Interrupted
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


def report_spending(name: str, budget: Budget) -> None:
    """Print on standard error what the last question on an image cost (--debug)."""
    if _shown[0]:
        typer.echo(
            f"{safe(name)}: {budget.objects:,} of {MAX_OBJECTS:,} objects, "
            f"{budget.bytes:,} of {MAX_BYTES:,} bytes",
            err=True,
        )


OF_ONE_IMAGE = (ImagetoolError, MemoryError, RecursionError)
"""What fails one image of several; the others are still judged."""


def without_frames(error: BaseException) -> ImagetoolError:
    """Return what is said of an exception, without what its readers had in memory."""
    failure = as_error(error)
    failure.__traceback__ = failure.__context__ = failure.__cause__ = None
    return failure


_WRITE_ERRORS = (errno.ENOSPC, errno.EROFS, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
"""Errors of writing alone; all others may be of reading."""


def as_error(error: BaseException) -> ImagetoolError:
    """Return what is said of any exception that ends a command."""
    if isinstance(error, ImagetoolError):
        return error
    if isinstance(error, KeyboardInterrupt):
        message = str(error) or "interrupted before all was done"
        return Interrupted(message, hint="Run it again.")
    if isinstance(error, (MemoryError, RecursionError)):
        what = "more memory than there is" if isinstance(error, MemoryError) else "too many levels"
        return BudgetSpent(
            f"the input takes {what} to read",
            hint="It is damaged or made to harm, or too large for this machine.",
        )
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        if error.errno in _WRITE_ERRORS:
            return CannotWrite(
                f"{name}cannot be written: {error.strerror}", hint="Make room, or write elsewhere."
            )
        return CannotOpen(
            f"{name}the system refuses: {error.strerror}",
            hint="Is it a file that this user may read, on a disk that answers?",
        )
    return ImagetoolError(
        f"a fault in imagetool itself: {type(error).__name__}: {error}",
        hint="please report it, with the output of the same command and --debug",
    )


def report_failure(error: BaseException, image: str = "") -> int:
    """Print an error and its hint on standard error; return its exit code.

    The sentence names the image of several that it is about, where it does not do so itself.
    """
    failure = as_error(error)
    name = "" if image in failure.message else f"{image}: "
    typer.echo(f"imagetool: {safe(f'{name}{failure.message}')}", err=True)
    if failure.hint:
        typer.echo(f"hint: {safe(failure.hint)}", err=True)
    print_traceback(error)
    return failure.exit_code


def report_warnings(name: str, warnings: Iterable[str]) -> None:
    """Print warnings about an image on standard error, where the result itself has no room."""
    for text in warnings:
        typer.echo(f"warning: {safe(name)}: {safe(text)}", err=True)
