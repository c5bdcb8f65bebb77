"""The images that a command line names, on this machine or on hosts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from imagetool.connection import OpenHosts
from imagetool.disk.local_files import FileSource
from imagetool.errors import CannotOpen, WrongUsage
from imagetool.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagetool.contracts import OpenFile
    from imagetool.guest.image import Image


_MAX_NAME_FILE_SIZE = 64 << 20


_NAME_IMAGES = "Name images, patterns or directories; --from FILE for a list."


def find_locations(
    images: Sequence[str], hosts: OpenHosts, *, recursive: bool = False
) -> list[Location]:
    """Return the locations of several images, each once (Location.find). Raises WrongUsage."""
    found: dict[str, Location] = {}
    for image in images:
        for location in Location.parse(image, hosts.files).find(recursive=recursive):
            found.setdefault(str(location), location)
    return list(found.values())


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
    with OpenHosts() as hosts, Location.parse(image, hosts.files).open(parents) as opened:
        yield opened


@contextmanager
def opened_file(image: str) -> Iterator[OpenFile]:
    """Open a file on this machine or on a host; closing it twice is harmless."""
    with OpenHosts() as hosts:
        file = Location.parse(image, hosts.files).open_file()
        try:
            yield file
        finally:
            file.close()
