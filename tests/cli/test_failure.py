"""What is said of an exception that no layer has put into words."""

from __future__ import annotations

import errno

import pytest

from imagetool.cli.failure import as_error
from imagetool.errors import CannotOpen, CannotWrite


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, CannotWrite), (errno.EROFS, CannotWrite), (errno.EFBIG, CannotWrite),
     (errno.EACCES, CannotOpen), (errno.EINVAL, CannotOpen), (errno.EIO, CannotOpen)],
)  # fmt: skip
def test_only_what_concerns_writing_is_said_of_it(number: int, kind: type) -> None:
    """A device of Windows that cannot be read is no full disk."""
    error = as_error(OSError(number, "because", r"\\.\PhysicalDrive0"))
    assert type(error) is kind
    assert error.message.startswith(r"\\.\PhysicalDrive0: ")
    assert ("disk is full" in error.message + error.hint) is False
