"""The errors that a user may see: each has a sentence, a hint and an exit code.

The exit codes are those of `imagetool --help` and docs/commands.md. An error names the file, the
offset or structure in it, and the problem; its hint names a remedy. Any other exception is a fault
of imagetool's own (exit code 70).
"""

from __future__ import annotations


class ImagetoolError(Exception):
    """The base class: a message of one sentence, a hint that names a remedy, and an exit code."""

    exit_code = 70

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


# 1: the input was read, and the answer is negative


class NotFound(ImagetoolError):
    """The requested key, value or file is not in the image."""

    exit_code = 1


class DoesNotApply(ImagetoolError):
    """The package is not applicable to this guest, or a plan is blocked."""

    exit_code = 1


# 2: the command line


class WrongUsage(ImagetoolError):
    """The command line is invalid, or its options contradict each other."""

    exit_code = 2


# 3: an input cannot be read


class Unreadable(ImagetoolError):
    """An input cannot be read; the base class of all errors with exit code 3."""

    exit_code = 3


class CannotOpen(Unreadable):
    """The file cannot be opened: it is missing, a directory, or access is denied."""


class NoFile(CannotOpen):
    """There is no regular file of that name: nothing, a directory, or a device."""


class EmptyFile(CannotOpen):
    """The file is empty."""


class NotRecognised(Unreadable):
    """The input has no format that imagetool knows."""


class Corrupt(Unreadable):
    """The input violates its own format; the message names the file, structure and offset."""


class Unsupported(Unreadable):
    """A valid input uses a feature that imagetool does not read; the message names it."""


class Encrypted(Unsupported):
    """The volume is encrypted."""


class BudgetSpent(Unreadable):
    """An input describes more than an answer may take, as damaged and hostile ones do."""


class Unclean(Unreadable):
    """A journal holds writes that are not in place, so no verdict follows from the files."""


class NoOperatingSystem(Unreadable):
    """The command needs an operating system, and the image holds none."""


class SeveralInstallations(Unreadable):
    """The image holds several Windows installations, and the command did not choose one."""


# 4 to 7: hosts, servicing, results


class HostFailed(ImagetoolError):
    """The host cannot be reached, or refuses the request."""

    exit_code = 4


class ServicingFailed(ImagetoolError):
    """Servicing failed; the image is unchanged."""

    exit_code = 5


class LeftBehind(ImagetoolError):
    """Servicing failed and left files or mounts on the host, which the message names."""

    exit_code = 6


class CannotWrite(ImagetoolError):
    """The result could not be written: disk full, no permission, the target exists."""

    exit_code = 7


# 130: Ctrl-C


class Interrupted(ImagetoolError):
    """The work was interrupted; reports name it, the program only ends."""

    exit_code = 130
