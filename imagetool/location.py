"""The location of an image: its machine, its path there, and the path rules of that machine.

A location is written as a path of this machine, or as HOST:PATH. It opens no session: whoever makes
it hands it a function that opens the files of a host, which is called on first use.
"""

from __future__ import annotations

import ntpath
import os
import posixpath
import re
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from imagetool.disk.files import names_an_image
from imagetool.disk.local_files import LOCAL_FILES
from imagetool.errors import CannotOpen, HostFailed, ImagetoolError, Unsupported

if TYPE_CHECKING:
    from imagetool.contracts import Files, OpenFile
    from imagetool.guest.image import Image

_HOST_PATH = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]+):(.+)", re.DOTALL)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_WINDOWS_ABSOLUTE = re.compile(r"[A-Za-z]:[\\/]|[\\/]{2}[^\\/]")
_THIS_MACHINE = "local"

OpenFiles = Callable[[str], "Files"]
"""Opens the files of a host by its name. Raises HostFailed, WrongUsage."""


def split_host_path(text: str) -> tuple[str, str]:
    """Split HOST:PATH into the host (empty: this machine) and the path there.

    A file of that name on this machine takes precedence, and a single letter before the colon is a
    drive. `local:` is this machine, whose files are read without a session. Raises Unsupported for
    a URL.
    """
    match = _HOST_PATH.fullmatch(text) if ":" in text else None
    if match is None or _exists(text):
        return "", text
    if _URL.match(text):
        raise Unsupported(
            f"{text}: an image behind a URL is not read yet",
            hint="Copy it here, or name it as HOST:PATH.",
        )
    host = match[1]
    return ("" if host.lower() == _THIS_MACHINE else host), match[2]


def _exists(path: str) -> bool:
    try:
        return os.path.exists(path)  # noqa: PTH110  # of a name that no system has it is False
    except ValueError:  # a NUL
        return False


class Location:
    """A path on this machine or on a host. `host` is empty for this machine.

    A pattern or a directory that could not be searched is a location with its `failure`.
    """

    __slots__ = ("_open_files", "failure", "host", "path")

    def __init__(
        self,
        path: str,
        host: str = "",
        open_files: OpenFiles | None = None,
        failure: ImagetoolError | None = None,
    ) -> None:
        self.path = path
        self.host = host
        self.failure = failure
        self._open_files = open_files

    @classmethod
    def parse(cls, text: str, open_files: OpenFiles | None = None) -> Location:
        """Parse a path, or HOST:PATH where hosts can be opened. Raises Unsupported for a URL."""
        host, path = split_host_path(text)
        return cls(path, host, open_files)

    @property
    def files(self) -> Files:
        """The files of its machine. Raises HostFailed where the host cannot be reached."""
        if not self.host:
            return LOCAL_FILES
        if self._open_files is None:
            raise HostFailed(
                f"{self}: no session with {self.host} is open",
                hint=f"Open one with imagetool.connect({self.host!r}).",
            )
        return self._open_files(self.host)

    def __str__(self) -> str:
        return f"{self.host}:{self.path}" if self.host else self.path

    @property
    def name(self) -> str:
        """The name of the location in messages: a path, or HOST:PATH."""
        return str(self)

    def __repr__(self) -> str:
        return f"Location({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Location) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[str, str]:
        """Host and path, one for all spellings of a whole Windows path of a host."""
        if self.host and _WINDOWS_ABSOLUTE.match(self.path):
            return self.host.lower(), ntpath.normcase(ntpath.normpath(self.path))
        return self.host.lower(), self.path

    def __fspath__(self) -> str:
        if self.host:
            raise TypeError(f"{self} is on a host, and no path of this machine")
        return self.path

    # Paths, by the rules of the machine

    @property
    def on_windows(self) -> bool:
        """True if its path follows the rules of Windows; a host is asked only where it must be."""
        if not self.host:
            return os.name == "nt"
        if _WINDOWS_ABSOLUTE.match(self.path):
            return True
        return not self.path.startswith("/") and self.files.on_windows

    @property
    def _rules(self) -> ModuleType:
        return ntpath if self.on_windows else posixpath

    def at(self, path: str) -> Location:
        """The location of another path on the same machine."""
        return Location(path, self.host, self._open_files)

    @property
    def parent(self) -> Location:
        """The directory that it lies in, by its path alone; links are not followed."""
        return self.at(self._rules.dirname(self.path) or ".")

    @property
    def file_name(self) -> str:
        """The last name of its path."""
        return str(self._rules.basename(self.path.rstrip("\\/" if self.on_windows else "/")))

    @property
    def stem(self) -> str:
        """The last name without its suffix."""
        return str(self._rules.splitext(self.file_name)[0])

    @property
    def suffix(self) -> str:
        """The suffix of the last name, with its dot; empty without one."""
        return str(self._rules.splitext(self.file_name)[1])

    def join(self, name: str) -> Location:
        """The location of a name in this directory."""
        separators = "\\/:" if self.on_windows else "/"
        between = "" if self.path[-1:] in separators else separators[0]
        return self.at(f"{self.path}{between}{name}")

    def sibling(self, name: str) -> Location:
        """The location of another name in the same directory."""
        folder = self._rules.dirname(self.path)
        return self.at(folder).join(name) if folder else self.at(name)

    # Its contents

    def open(self, parents: Sequence[str] | None = None) -> Image:
        """Open the image. Raises `failure`, and what `open_image` raises."""
        from imagetool.guest.image import open_image

        if self.failure is not None:
            raise self.failure
        return open_image(self.path, parents or (), self.files)

    def open_file(self) -> OpenFile:
        """Open the file itself. Raises NoFile, EmptyFile, CannotOpen, HostFailed."""
        from imagetool.disk.files import expected_ranges

        return self.files.open(self.path, expected_ranges(self.path))

    def find(self, *, recursive: bool = False) -> list[Location]:
        """The images that it stands for: those of a pattern or a directory, or itself.

        Where the host cannot be reached, nothing fits or a directory cannot be listed, that is the
        `failure` of a location of its own. Raises WrongUsage.
        """
        try:
            files = self.files
            if names_an_image(self.path):  # without the import of what walks through directories
                return [self]
            from imagetool.disk.find import find_images

            paths, errors = find_images(self.path, files, recursive=recursive, name=str(self))
        except (HostFailed, CannotOpen) as error:
            return [Location(self.path, self.host, self._open_files, error)]
        return [
            Location(path, self.host, self._open_files, errors.get(path))
            for path in (*paths, *errors)
        ]
