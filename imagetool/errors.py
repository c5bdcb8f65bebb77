"""Every failure that a user may see: a sentence, a hint, and an exit code.

The exit codes are those of `imagetool --help` and docs/commands.md. An error names the file, the
place in it and what is wrong; its hint says what to do. Whatever comes out of a reader that is
none of these is a fault of imagetool's own (exit code 70).
"""

from __future__ import annotations


class ImagetoolError(Exception):
    """A failure said in one sentence, with a hint that says what to do, and an exit code."""

    exit_code = 70

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


# 1: read well, and the answer is no


class NotFound(ImagetoolError):
    """The key, value or file that was asked for is not in the image."""

    exit_code = 1


class DoesNotApply(ImagetoolError):
    """The package is not for this guest, or a plan is blocked."""

    exit_code = 1


# 2: the command line


class WrongUsage(ImagetoolError):
    """The command line asks for something that makes no sense."""

    exit_code = 2


# 3: an input cannot be read


class Unreadable(ImagetoolError):
    """An input that cannot be read; the base of everything with exit code 3."""

    exit_code = 3


class CannotOpen(Unreadable):
    """The file is missing, a directory, or not permitted."""


class NoFile(CannotOpen):
    """There is no file of that name: nothing at all, a directory, or a device."""


class EmptyFile(CannotOpen):
    """The file has no bytes."""


class NotRecognised(Unreadable):
    """The bytes are of no format that imagetool knows."""


class Corrupt(Unreadable):
    """The input contradicts its own format; the message says where (file, structure, offset)."""


class Unsupported(Unreadable):
    """A sound input that uses something which imagetool does not read; the message names it."""


class Encrypted(Unsupported):
    """A volume that only its key opens."""


class NoOperatingSystem(Unreadable):
    """The question is about an operating system, and the image holds none."""


class SeveralInstallations(Unreadable):
    """The image holds several Windows installations and the question did not choose one."""


# 4 to 7: hosts, servicing, results


class HostFailed(ImagetoolError):
    """The host cannot be reached, or refuses."""

    exit_code = 4


class ServicingFailed(ImagetoolError):
    """Servicing failed; the image is as it was."""

    exit_code = 5


class LeftBehind(ImagetoolError):
    """Servicing failed and something was left on the host: `imagetool recover`."""

    exit_code = 6


class CannotWrite(ImagetoolError):
    """The result could not be written: disk full, no permission, the target exists."""

    exit_code = 7
