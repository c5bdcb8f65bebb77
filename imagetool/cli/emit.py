"""Results on standard output, or in a file that is whole or not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from imagetool.errors import CannotWrite, ImagetoolError, Interrupted
from imagetool.report import render

if TYPE_CHECKING:
    from imagetool.contracts import Reportable

_STANDARD_OUTPUT = Path("-")
_HEAD_SIZE = 512


def emit(result: Reportable, output_format: str, output: Path | None = None) -> None:
    """Write a result to standard output, or to a file. Raises CannotWrite."""
    text = render(result, output_format)
    if output is None or output == _STANDARD_OUTPUT:
        # Whoever read it may have gone (`| head`): the exit code still says what was found.
        with suppress(BrokenPipeError):
            typer.echo(text, nl=False)
        return
    try:
        _write_whole(Path(os.path.realpath(output)), text.encode("utf-8"))
    except OSError as error:
        raise _cannot_write(output, f"cannot be written: {error.strerror}") from None


@contextmanager
def reported(
    output: Path | None,
    output_format: str,
    report: Callable[[ImagetoolError | None], Reportable],
) -> Iterator[None]:
    """Write the report when the work inside the context ends, however it ends.

    `report` makes it, given the error that ended the work, or None. A report of last time is
    removed first. A failure in text form on standard output is left to standard error.
    Raises CannotWrite before the work begins where the output cannot be a report.
    """
    _remove_last_report(output)
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except BaseException as error:
        if output_format != "text" or output is not None:
            with suppress(CannotWrite):  # the first failure is the one to be said
                emit(report(_as_error(error)), output_format, output)
        raise
    emit(report(None), output_format, output)


def _as_error(error: BaseException) -> ImagetoolError:
    if isinstance(error, ImagetoolError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted before all was judged", hint="Run it again.")
    return ImagetoolError(
        f"a fault in imagetool itself: {type(error).__name__}: {error}",
        hint="Please report it, with the output of the same command and --debug.",
    )


def _remove_last_report(output: Path | None) -> None:
    """Remove what an earlier run left, if it can be a report: no image is given up for one."""
    if output is None or output == _STANDARD_OUTPUT:
        return
    try:
        if output.is_dir():
            raise _cannot_write(output, "this is a directory")
        if not output.is_file():
            if not Path(os.path.realpath(output)).parent.is_dir():
                raise _cannot_write(output, "there is no such directory")
            return
        with output.open("rb") as file:
            if b"\0" in file.read(_HEAD_SIZE):
                raise _cannot_write(output, "this file is no report, and is not overwritten")
        Path(os.path.realpath(output)).unlink()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _cannot_write(output, f"cannot be written: {reason}") from None


def _write_whole(path: Path, data: bytes) -> None:
    """Write a file under another name, and give it its own when it is whole."""
    if path.exists() and not path.is_file():  # a device or a pipe, which cannot be replaced
        path.write_bytes(data)
        return
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _cannot_write(output: Path, what: str) -> CannotWrite:
    return CannotWrite(
        f"{output}: {what}", hint="Is the disk full, or the directory missing or read-only?"
    )
