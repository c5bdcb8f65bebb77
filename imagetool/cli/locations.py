"""Locations of images, on this machine or on a host; one session per host and command."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from imagetool.cli.options import split_host_path
from imagetool.disk.local_files import LOCAL_FILES
from imagetool.errors import CannotOpen, HostFailed, ImagetoolError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagetool.contracts import Files, OpenFile
    from imagetool.guest.image import Image
    from imagetool.host.reading import HostFiles


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

    def locations(self, images: Sequence[str]) -> list[Location]:
        """Return the locations of several images; patterns are expanded on the image's machine.

        A host that cannot be reached is the `failure` of its own images only. Raises CannotOpen
        for a pattern without a match.
        """
        found: list[Location] = []
        for image in images:
            host, path = split_host_path(image)
            if not host:
                found += [Location(item, item, LOCAL_FILES) for item in _local_paths(image, path)]
                continue
            try:
                files = self._files_on(host)
                paths = files.find(path) if glob.has_magic(path) else [path]
            except HostFailed as error:
                found.append(Location(image, path, LOCAL_FILES, error))
                continue
            if not paths:
                raise _no_match(image)
            found += [Location(files.display_name(item), item, files) for item in paths]
        return found

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


def _local_paths(image: str, pattern: str) -> list[str]:
    if Path(pattern).exists() or not glob.has_magic(pattern):
        return [pattern]
    found = sorted(glob.glob(pattern))  # noqa: PTH207  # takes absolute patterns as well
    if not found:
        raise _no_match(image)
    return found


def _no_match(image: str) -> CannotOpen:
    return CannotOpen(f"{image}: no file fits this pattern", hint="Check the directory.")


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
