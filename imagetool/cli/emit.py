"""Results on standard output, or in a file that is whole or not there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from imagetool.cli.failure import as_error, report_failure
from imagetool.errors import CannotWrite, ImagetoolError
from imagetool.report import render

if TYPE_CHECKING:
    from imagetool.contracts import Reportable

_STANDARD_OUTPUTS = (None, *map(Path, ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")))
"""Opened by its name, a closed standard output would be another file."""
_HEAD_SIZE = 512
_PACKAGE_MANIFEST = "update.mum"  # imagetool.package.media.MANIFEST, whose import takes long


def emit(result: Reportable, output_format: str, output: Path | None = None) -> bool:
    """Write a result to standard output, or to a file; False where its reader has gone.

    What is written for people to standard output leaves failures to standard error, which has
    them already. Raises CannotWrite.
    """
    if output in _STANDARD_OUTPUTS:
        try:
            typer.echo(render(result, output_format, errors_said=True), nl=False)
        except BrokenPipeError:  # the exit code is still to be given
            return False
        return True
    assert output is not None
    text = render(result, output_format)
    try:
        _write(output, text.encode("utf-8"))
    except OSError as error:
        raise _cannot_write(output, f"cannot be written: {error.strerror}") from None
    return True


def write_file(output: Path, text: str, inputs: Iterable[str | Path] = ()) -> None:
    """Write a file in UTF-8 that is whole or not there; never an input. Raises CannotWrite."""
    try:
        _check_output(output, inputs)
        _write(output, text.encode("utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _cannot_write(output, f"cannot be written: {reason}") from None


@contextmanager
def reported(
    command: str,
    output: Path | None,
    output_format: str,
    report: Callable[[ImagetoolError | None], Reportable],
    inputs: Iterable[str | Path] = (),
) -> Iterator[None]:
    """Write the report of a command when the work inside the context ends, however it ends.

    `report` makes it, given the error that ended the work, or None. A report of last time is
    removed first, unless it is one of the `inputs`. A failure in text form on standard output is
    left to standard error. Raises CannotWrite before the work begins where the output cannot be a
    report.
    """
    _remove_last_report(output, inputs)
    try:
        yield
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except BaseException as error:  # an interruption, too
        failure = as_error(error)
        if output_format != "text" or output not in _STANDARD_OUTPUTS:
            _emit_failure(report(failure), output_format, output)
        raise
    try:
        emit(report(None), output_format, output)
    except ImagetoolError:
        raise
    except Exception as error:  # no result, and no fault of a format, may leave no report
        _emit_failure(empty_report(command, as_error(error)), output_format, output)
        raise


def empty_report(command: str, error: ImagetoolError) -> Reportable:
    """Return the report of a run that ended before there was any result."""
    if command == "verify":
        from imagetool.verdict.verify import VerificationReport

        return VerificationReport((), error, datetime.now(UTC))
    if command == "inspect":
        from imagetool.guest.inspection import InspectionReport

        return InspectionReport((), error)
    if command == "inject":
        from imagetool.servicing.inject import InjectionReport

        return InjectionReport((), error)
    from imagetool.package.signature.check import MediaReport

    return MediaReport("", (), error=error)


def _emit_failure(result: Reportable, output_format: str, output: Path | None) -> None:
    """Write the report of a failure; that it cannot be written is said beside the failure."""
    try:
        emit(result, output_format, output)
    except CannotWrite as error:
        report_failure(error)


def _remove_last_report(output: Path | None, inputs: Iterable[str | Path]) -> None:
    """Remove what an earlier run left, if it can be a report: no input is given up for one."""
    if output is None or output in _STANDARD_OUTPUTS or _is_stream(output):
        return
    try:
        _check_output(output, inputs)
        Path(os.path.realpath(output)).unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _cannot_write(output, f"cannot be written: {reason}") from None


def _check_output(output: Path, inputs: Iterable[str | Path]) -> None:
    """Raise CannotWrite where a report cannot be, or may not replace what is."""
    try:
        mode = output.stat().st_mode
    except FileNotFoundError:
        mode = 0
    if stat.S_ISDIR(mode):
        raise _cannot_write(output, "this is a directory")
    folder = Path(os.path.realpath(output)).parent
    if not folder.is_dir():
        raise _cannot_write(output, "cannot be written: there is no such directory")
    if not os.access(folder, os.W_OK):
        raise _cannot_write(output, "cannot be written: its directory is read-only")
    inputs = list(inputs)
    if any(_is_in_package(item, folder) for item in inputs):
        raise CannotWrite(
            f"{output}: this is in the folder of a package, and would be a file of it",
            hint="Name another --output.",
        )
    if not mode:
        return
    if any(_is_same_file(item, output) for item in inputs):
        raise CannotWrite(
            f"{output}: an input cannot be the output too", hint="Name another --output."
        )
    with output.open("rb") as file:
        if b"\0" in file.read(_HEAD_SIZE):
            raise _cannot_write(output, "this file is no report, and is not overwritten")


def _is_same_file(item: str | Path, output: Path) -> bool:
    with suppress(OSError, ValueError):
        return output.samefile(item)
    return False


def _is_in_package(item: str | Path, folder: Path) -> bool:
    """True if an input is the folder of a package, and `folder` is it or lies in it."""
    with suppress(OSError, ValueError):
        path = Path(os.path.realpath(item))
        return folder.is_relative_to(path) and (path / _PACKAGE_MANIFEST).is_file()
    return False


def _is_stream(output: Path) -> bool:
    """True for a device or a pipe, and for the names of this process's own streams."""
    if output.as_posix().startswith(("/dev/std", "/dev/fd/", "/proc/")):
        return True
    with suppress(OSError, ValueError):
        return output.exists() and not output.is_file() and not output.is_dir()
    return False


def _write(output: Path, data: bytes) -> None:
    """Write a file under another name, and give it its own when it is whole."""
    if _is_stream(output):  # it can neither be replaced nor emptied
        with output.open("ab") as file:
            file.write(data)
        return
    path = Path(os.path.realpath(output))
    temporary = path.with_name(f".imagetool-{os.urandom(6).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:  # an interruption, too
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _cannot_write(output: Path, what: str) -> CannotWrite:
    return CannotWrite(
        f"{output}: {what}", hint="Is the disk full, or the directory missing or read-only?"
    )
