"""Options that several commands share, and where an image is."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from imagetool.errors import Unsupported

_HOST_PATH = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]+):(?!//)(.+)", re.DOTALL)
_EXIT_CODES_BY_SEVERITY = (70, 6, 7, 5, 4, 3, 1)


class Format(StrEnum):
    """How a result is written."""

    TEXT = "text"
    JSON = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="How the result is written.")]
VolumeOption = Annotated[
    int | None,
    typer.Option("--volume", metavar="N", help="Which volume, as `disk map` numbers them."),
]
ParentsOption = Annotated[
    list[str] | None,
    typer.Option("--parents", metavar="DIR", help="Where parents of differencing disks may lie."),
]
ImageArgument = Annotated[str, typer.Argument(metavar="IMAGE", help="A disk image, or HOST:PATH.")]
PathArgument = Annotated[
    str, typer.Argument(metavar="PATH", help="A path in the image; C:\\ is the Windows volume.")
]


def split_host_path(image: str) -> tuple[str, str]:
    """The host that an image lies on (empty: here), and its path there.

    A file that exists here wins, and a single letter before the colon is a drive. `local:` is this
    machine, whose files are read without a session.
    """
    match = _HOST_PATH.fullmatch(image)
    if match is None or _exists(image):
        return "", image
    known = match[1].lower()
    return {"local": "", "lab": "lab"}.get(known, match[1]), match[2]


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # no path that this system could have
        return False


def local_path(image: str) -> Path:
    """The path on this machine of an image that a host is to change, or of a package.

    For the emulated host a path there is a path here. Raises Unsupported for another host.
    """
    host, path = split_host_path(image)
    if host in ("", "lab"):
        return Path(path)
    raise Unsupported(
        f"{image}: what lies on a host can only be read there for now",
        hint="Copy it here, or run imagetool where it lies; ./ before a name says 'here'.",
    )


def worst_exit_code(codes: list[int]) -> int:
    """The exit code for several images: the first of 70, 6, 7, 5, 4, 3, 1 that occurred."""
    return next((code for code in _EXIT_CODES_BY_SEVERITY if code in codes), max(codes, default=0))
