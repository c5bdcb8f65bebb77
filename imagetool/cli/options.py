"""Options that several commands share, and where an image is."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from imagetool.errors import Unsupported

_HOST = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]+):(?!//)(.+)")
_HERE = ("local", "lab")
_ORDER = (70, 6, 7, 5, 4, 3, 1)


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
    list[Path] | None,
    typer.Option("--parents", metavar="DIR", help="Where parents of differencing disks may lie."),
]
ImageArgument = Annotated[str, typer.Argument(metavar="IMAGE", help="A disk image.")]
PathArgument = Annotated[
    str, typer.Argument(metavar="PATH", help="A path in the image; C:\\ is the Windows volume.")
]


def here(image: str) -> Path:
    """The path of an image on this machine.

    A file that exists here wins; `local:` and `lab:` name paths here as well. Raises Unsupported
    for an image on another host.
    """
    path = Path(image)
    match = _HOST.fullmatch(image)
    if match is None or path.exists():
        return path
    if match[1].lower() in _HERE:
        return Path(match[2])
    raise Unsupported(
        f"{image}: images on a host are not read yet",
        hint="Copy the image here, or run imagetool where it lies; ./ before a name says 'here'.",
    )


def worst(codes: list[int]) -> int:
    """The exit code for several images: the first of 70, 6, 7, 5, 4, 3, 1 that occurred."""
    return next((code for code in _ORDER if code in codes), max(codes, default=0))
