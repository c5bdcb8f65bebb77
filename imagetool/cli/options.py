"""Options that several commands share, HOST:PATH, and the exit code for several images."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from imagetool.errors import Unsupported, WrongUsage

_EXIT_CODES_BY_SEVERITY = (70, 6, 7, 5, 4, 3, 1)


class Format(StrEnum):
    """The formats of a result."""

    TEXT = "text"
    JSON = "json"


class VerdictFormat(StrEnum):
    """The formats of verdicts."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"


FormatOption = Annotated[Format, typer.Option("--format", help="How the result is written.")]
VerdictFormatOption = Annotated[
    VerdictFormat, typer.Option("--format", help="How the verdicts are written.")
]


def _output_path(text: str) -> Path:
    if not text:
        raise WrongUsage("--output is empty", hint="Name a file; a variable may not be set.")
    return Path(text)


OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        metavar="FILE",
        parser=_output_path,
        help="Where they are written to; - is the output.",
    ),
]
DebugOption = Annotated[
    bool,
    typer.Option("--debug", help="Show what it cost, and a traceback with every failure."),
]
VolumeOption = Annotated[
    int | None,
    typer.Option("--volume", metavar="N", help="Which volume, as `disk map` numbers them."),
]
ParentsOption = Annotated[
    list[str] | None,
    typer.Option("--parents", metavar="DIR", help="Where parents of differencing disks may lie."),
]
HostOption = Annotated[
    str | None,
    typer.Option(
        "--host",
        metavar="HOST",
        help="local, lab for a rehearsal, a name or URL; by default your own file's, else local.",
    ),
]
ImageArgument = Annotated[str, typer.Argument(metavar="IMAGE", help="A disk image, or HOST:PATH.")]
PathArgument = Annotated[
    str, typer.Argument(metavar="PATH", help="A path in the image; C:\\ is the Windows volume.")
]


RecursiveOption = Annotated[
    bool, typer.Option("--recursive", help="Of a directory also the images below it.")
]
FromOption = Annotated[
    list[str] | None,
    typer.Option("--from", metavar="FILE", help="A file with images, one a line; - is the input."),
]
TrustOption = Annotated[
    list[Path] | None,
    typer.Option("--trust", metavar="FILE", help="A root certificate, beside Microsoft's."),
]


def local_path(image: str) -> Path:
    """Return the path on this machine of a package, or of an image that the lab boots.

    The emulated host has the same paths as this machine. Raises Unsupported for another host.
    """
    from imagetool.connection import named_host
    from imagetool.location import split_host_path

    host, path = split_host_path(image)
    if not host or not named_host(host, url_allowed=False).remote:
        return Path(path)
    raise Unsupported(
        f"{image}: only images are read on a host",
        hint="Copy it here, or run imagetool where it lies; ./ before a name says 'here'.",
    )


def worst_exit_code(codes: list[int]) -> int:
    """Return the exit code for several images: the first of 70, 6, 7, 5, 4, 3, 1 that occurred."""
    return next((code for code in _EXIT_CODES_BY_SEVERITY if code in codes), max(codes, default=0))
