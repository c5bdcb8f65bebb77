"""Standard output and standard error, where either may be closed, full, or without a reader."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from imagetool.errors import CannotWrite

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Output(io.FileIO):
    """Standard output: the first write that fails says so, and the others are thrown away.

    So Python, which writes what is left as it ends, has nothing to complain of.
    """

    _failed = False

    def write(self, data: ReadableBuffer) -> int:
        """As FileIO.write. Raises CannotWrite; BrokenPipeError where nobody reads any more."""
        try:
            return super().write(data)
        except OSError as error:
            if self._failed:
                return memoryview(data).nbytes
            self._failed = True
            if isinstance(error, BrokenPipeError):
                raise
            if error.errno == errno.EBADF:
                raise CannotWrite(
                    "standard output is closed", hint="Leave it open, or send it somewhere."
                ) from None
            raise CannotWrite(
                f"standard output cannot be written to: {error.strerror}",
                hint="Is the disk full? Send it somewhere else.",
            ) from None


class _Complaints(io.FileIO):
    """Standard error: what is said of a failure may not become another one."""

    def write(self, data: ReadableBuffer) -> int:
        """As FileIO.write, and what cannot be written is thrown away."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def open_outputs() -> None:
    """Put in the place of both streams what says once that it cannot be written to."""
    if sys.stdout is None:  # it was closed
        # Whoever may only read it cannot write to it; and no image gets the number of the output.
        sys.stdout = os.fdopen(
            os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8", closefd=False
        )
    if sys.stderr is None:
        sys.stderr = os.fdopen(
            os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8", closefd=False
        )
    sys.stdout = _over(sys.stdout, _Output)
    sys.stderr = _over(sys.stderr, _Complaints)


def _over(stream: TextIO, kind: type[io.FileIO]) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    # A Windows console or a C locale lacks many characters; no name may end the program.
    stream.reconfigure(errors="backslashreplace")
    if type(getattr(stream.buffer, "raw", stream.buffer)) is not io.FileIO:  # a Windows console
        return stream
    file = kind(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(file), stream.encoding, "backslashreplace", line_buffering=True
    )
