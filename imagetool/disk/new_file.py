"""New files here: never over another, and gone again where writing them fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from imagetool.errors import CannotWrite


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file, open for writing. Raises CannotWrite where it exists, or the disk refuses."""
    try:
        file = path.open("xb")
    except FileExistsError:
        raise CannotWrite(
            f"{path}: there is a file of that name already", hint="Name another, or remove it."
        ) from None
    except OSError as error:
        raise CannotWrite(f"{path}: cannot be written: {error.strerror}") from None
    try:
        with file:
            yield file
    except OSError as error:
        path.unlink(missing_ok=True)
        raise CannotWrite(
            f"{path}: writing failed: {error.strerror}", hint="Is the disk full?"
        ) from None
    except BaseException:
        path.unlink(missing_ok=True)
        raise
