"""Where images are: here, or on a host, with one session a host and command."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from imagetool.cli.options import host_and_path
from imagetool.disk.local_files import LOCAL_FILES
from imagetool.errors import CannotOpen, HostFailed, ImagetoolError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagetool.disk.files import Files, OpenFile
    from imagetool.guest.image import Image
    from imagetool.host.reading import HostFiles


class Place(NamedTuple):
    """An image, and where it lies; or why that could not be found out."""

    name: str
    """What people call it: a path, or HOST:PATH."""
    path: str
    files: Files
    failure: ImagetoolError | None = None

    def open(self, parents: Sequence[str] | None = None) -> Image:
        """The image. Raises what kept its host from being asked, and what `open_image` raises."""
        from imagetool.guest.image import open_image

        if self.failure is not None:
            raise self.failure
        return open_image(self.path, parents or (), self.files)


class Hosts:
    """The hosts that a command reads from: a session each, opened when the first image asks.

    A context manager: at its end the sessions are closed, whatever happens.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._files: dict[str, HostFiles | HostFailed] = {}

    def place(self, image: str) -> Place:
        """Where one image is. Raises HostFailed where its host cannot be reached."""
        host, path = host_and_path(image)
        return Place(image, path, self._on(host)) if host else Place(path, path, LOCAL_FILES)

    def places(self, images: Sequence[str]) -> list[Place]:
        """Where several are, patterns expanded where they lie.

        A host that cannot be reached is the failure of its images only. Raises CannotOpen for a
        pattern that nothing fits.
        """
        found: list[Place] = []
        for image in images:
            host, path = host_and_path(image)
            if not host:
                found += [Place(item, item, LOCAL_FILES) for item in _here(image, path)]
                continue
            try:
                files = self._on(host)
                paths = files.find(path) if glob.has_magic(path) else [path]
            except HostFailed as error:
                found.append(Place(image, path, LOCAL_FILES, error))
                continue
            if not paths:
                raise _nothing_fits(image)
            found += [Place(files.display_name(item), item, files) for item in paths]
        return found

    def _on(self, host: str) -> HostFiles:
        files = self._files.get(host.lower())
        if files is None:
            files = self._files[host.lower()] = self._reach(host)
        if isinstance(files, HostFailed):
            raise files
        return files

    def _reach(self, host: str) -> HostFiles | HostFailed:
        from imagetool.cli.hosts import session_opener
        from imagetool.host.reading import HostFiles

        try:
            session = self._stack.enter_context(session_opener(host)())
        except HostFailed as error:
            return error
        return HostFiles(session, host, lazy_close=True)

    def __enter__(self) -> Hosts:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()


def _here(image: str, pattern: str) -> list[str]:
    if Path(pattern).exists() or not glob.has_magic(pattern):
        return [pattern]
    found = sorted(glob.glob(pattern))  # noqa: PTH207  # takes absolute patterns as well
    if not found:
        raise _nothing_fits(image)
    return found


def _nothing_fits(image: str) -> CannotOpen:
    return CannotOpen(f"{image}: no file fits this pattern", hint="Check the directory.")


@contextmanager
def opened_image(image: str, parents: Sequence[str] | None) -> Iterator[Image]:
    """An image here or on a host, opened."""
    with Hosts() as hosts, hosts.place(image).open(parents) as opened:
        yield opened


@contextmanager
def opened_file(image: str) -> Iterator[OpenFile]:
    """A file here or on a host, opened; who takes it over closes it as well."""
    from imagetool.disk.files import expected_ranges

    with Hosts() as hosts:
        place = hosts.place(image)
        file = place.files.open(place.path, expected_ranges(place.path))
        try:
            yield file
        finally:
            file.close()
