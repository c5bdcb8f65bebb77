"""Creation of local files: never over an existing one, and removed if writing fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from imagetool.errors import CannotWrite


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Create a file and open it for writing. Raises CannotWrite if it exists or writing fails."""
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
    except BaseException:  # an interruption, too
        path.unlink(missing_ok=True)
        raise
