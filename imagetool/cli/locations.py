"""Locations of images, on this machine or on a host; one session per host and command."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from imagetool.cli.options import split_host_path
from imagetool.disk.files import names_an_image
from imagetool.disk.local_files import LOCAL_FILES, FileSource
from imagetool.errors import CannotOpen, HostFailed, ImagetoolError, WrongUsage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagetool.contracts import Files, OpenFile
    from imagetool.guest.image import Image
    from imagetool.host.reading import HostFiles


_MAX_NAME_FILE_SIZE = 64 << 20


_NAME_IMAGES = "Name images, patterns or directories; --from FILE for a list."


class Location(NamedTuple):
    """The location of an image: its path, and the files of its machine; or the error instead."""

    name: str
    """The name on the command line: a path, or HOST:PATH."""
    path: str
    files: Files
    failure: ImagetoolError | None = None

    def open(self, parents: Sequence[str] | None = None) -> Image:
        """Open the image. Raises `failure`, and what `open_image` raises."""
        from imagetool.guest.image import open_image

        if self.failure is not None:
            raise self.failure
        return open_image(self.path, parents or (), self.files)


class HostSessions:
    """The sessions that a command reads images through, one per host, opened on first use.

    A context manager, which closes them at its end.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._files: dict[str, HostFiles | HostFailed] = {}

    def location(self, image: str) -> Location:
        """Return the location of one image. Raises HostFailed where its host cannot be reached."""
        host, path = split_host_path(image)
        return (
            Location(image, path, self._files_on(host))
            if host
            else Location(path, path, LOCAL_FILES)
        )

    def locations(self, images: Sequence[str], *, recursive: bool = False) -> list[Location]:
        """Return the locations of several images, each once.

        Patterns and directories are searched on the image's machine. Where a host cannot be
        reached, nothing fits, or a directory cannot be listed, that is the `failure` of a location
        of its own.
        """
        found: dict[str, Location] = {}
        paths: Sequence[str]
        errors: Mapping[str, ImagetoolError]
        for image in images:
            host, path = split_host_path(image)
            try:
                files: Files = self._files_on(host) if host else LOCAL_FILES
                if names_an_image(path):  # without the import of what walks through directories
                    paths, errors = (path,), {}
                else:
                    from imagetool.disk.find import find_images

                    paths, errors = find_images(path, files, recursive=recursive, name=image)
            except (HostFailed, CannotOpen) as error:
                found.setdefault(image, Location(image, path, LOCAL_FILES, error))
                continue
            for item in (*paths, *errors):
                name = files.display_name(item) if host else item
                found.setdefault(name, Location(name, item, files, errors.get(item)))
        return list(found.values())

    def _files_on(self, host: str) -> HostFiles:
        files = self._files.get(host.lower())
        if files is None:
            files = self._files[host.lower()] = self._connect(host)
        if isinstance(files, HostFailed):
            raise files
        return files

    def _connect(self, host: str) -> HostFiles | HostFailed:
        from imagetool.connection import session_opener
        from imagetool.host.reading import HostFiles

        try:
            session = self._stack.enter_context(session_opener(host)())
        except HostFailed as error:
            return error
        return HostFiles(session, host, lazy_close=True)

    def __enter__(self) -> HostSessions:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()


def named_images(images: Sequence[str], name_files: Sequence[str]) -> list[str]:
    """Return the images of the command line and those that files name (-: standard input).

    One a line, in UTF-8; NULs separate them where there are any (`find -print0`). Raises
    WrongUsage where none is named, or a file names none; CannotOpen.
    """
    named = list(images)
    for name_file in name_files:
        text = _read_names(name_file)
        # A line feed alone ends a line: a name may have any other character that is one.
        lines = text.split("\0") if "\0" in text else text.split("\n")
        listed = [name for line in lines if (name := line.removesuffix("\r"))]
        if not listed:
            raise WrongUsage(f"{name_file}: no image is named there", hint=_NAME_IMAGES)
        named += listed
    if not named:
        raise WrongUsage("No image is named", hint=_NAME_IMAGES)
    return named


def _read_names(name_file: str) -> str:
    import sys

    if name_file == "-":
        data = sys.stdin.buffer.read(_MAX_NAME_FILE_SIZE + 1)
    else:
        with FileSource(name_file) as source:
            data = source.read_at(0, _MAX_NAME_FILE_SIZE + 1)
    if len(data) > _MAX_NAME_FILE_SIZE:
        raise CannotOpen(f"{name_file}: too large for a list of images", hint="Split it.")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):  # as Windows PowerShell redirects
        return data.decode("utf-16", "replace")
    return os.fsdecode(data.removeprefix(b"\xef\xbb\xbf"))


@contextmanager
def opened_image(image: str, parents: Sequence[str] | None) -> Iterator[Image]:
    """Open an image on this machine or on a host."""
    with HostSessions() as hosts, hosts.location(image).open(parents) as opened:
        yield opened


@contextmanager
def opened_file(image: str) -> Iterator[OpenFile]:
    """Open a file on this machine or on a host; closing it twice is harmless."""
    from imagetool.disk.files import expected_ranges

    with HostSessions() as hosts:
        location = hosts.location(image)
        file = location.files.open(location.path, expected_ranges(location.path))
        try:
            yield file
        finally:
            file.close()
