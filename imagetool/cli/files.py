"""file list, read and extract."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagetool.cli.emit import emit
from imagetool.cli.failure import report_warnings
from imagetool.cli.locations import opened_image
from imagetool.cli.options import (
    Format,
    FormatOption,
    ImageArgument,
    ParentsOption,
    PathArgument,
    VolumeOption,
)
from imagetool.cli.progress import Progress
from imagetool.errors import SeveralInstallations, WrongUsage
from imagetool.report.text import safe

if TYPE_CHECKING:
    from imagetool.filesystem import Node, Volume
    from imagetool.guest.image import Image

_CHUNK_SIZE = 1 << 20
_DEFAULT_MAX_SIZE = 16 << 30


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("list", epilog="Example: imagetool file list t.vhdx 'C:\\Windows\\System32'")(
        list_files
    )
    group.command("read", epilog="Example: imagetool file read t.vhdx Windows/win.ini > win.ini")(
        read
    )
    group.command(
        "extract",
        epilog="Example: imagetool file extract t.vhdx Windows/System32/icsvc.dll out.dll",
    )(extract)
    app.add_typer(group, name="file", help="Read the files of an image.")


@contextmanager
def _opened_node(
    image: str, path: str, volume: int | None, parents: Sequence[str] | None
) -> Iterator[tuple[Image, Node]]:
    """Open an image and the node at `path` in it, on `volume` or the default volume."""
    with _opened_volume(image, volume, parents) as (opened, found):
        yield opened, found.lookup(_without_drive(path, found))


@contextmanager
def _opened_volume(
    image: str, volume: int | None, parents: Sequence[str] | None
) -> Iterator[tuple[Image, Volume]]:
    with opened_image(image, parents) as opened:
        number = _default_volume(opened, image) if volume is None else volume
        yield opened, opened.volume(opened.block_device(number))


def _without_drive(path: str, volume: Volume) -> str:
    """Leave out the C: of a path; on the volumes of Linux a colon is part of a name."""
    if "\\" not in volume.separators or path[1:2] != ":" or not path[0].isalpha():
        return path
    if path[0].upper() != "C":
        raise WrongUsage(
            f"{path}: only C: is known, the volume of Windows",
            hint="Choose another volume with --volume N, and leave the letter out.",
        )
    return path[2:]


def _default_volume(opened: Image, image: str) -> int:
    """The volume of Windows, the root of Linux, or the only one that can be read."""
    from imagetool.filesystem.recognise import SUPPORTED_FILE_SYSTEMS

    roots = [item.block_device.number for item in opened.installations]
    roots = roots or [device.number for device, _ in opened.linux]
    if not roots:
        roots = [
            device.number
            for device in opened.block_devices
            if device.file_system in SUPPORTED_FILE_SYSTEMS
        ]
    if not roots:
        if len(opened.block_devices) == 1:
            return opened.block_devices[0].number  # opening it raises the fitting error
        opened.windows()
    if len(roots) > 1:
        raise SeveralInstallations(
            f"{image}: several volumes can be meant: {', '.join(map(str, roots))}",
            hint="Choose one with --volume N; `imagetool disk map` shows what they are.",
        )
    return roots[0]


def list_files(
    image: ImageArgument,
    path: PathArgument = "",
    output_format: FormatOption = Format.TEXT,
    volume: VolumeOption = None,
    parents: ParentsOption = None,
) -> None:
    """List a directory of an image."""
    from imagetool.filesystem.listing import list_directory

    with _opened_node(image, path, volume, parents) as (opened, node):
        result = list_directory(node, opened.warnings)
    if output_format is Format.TEXT:
        report_warnings(image, result.warnings)
    emit(result, output_format)


def _split_stream(path: str) -> tuple[str, str]:
    """Split a path of a Windows volume from the alternate data stream behind its last colon."""
    start = max(path.rfind("/"), path.rfind("\\")) + 1
    name, _, stream = path[start:].partition(":")
    return path[:start] + name, stream


def read(
    image: ImageArgument,
    path: PathArgument,
    volume: VolumeOption = None,
    parents: ParentsOption = None,
) -> None:
    """Write a file's bytes to standard output; `path:stream` reads an alternate stream."""
    with _opened_volume(image, volume, parents) as (opened, found):
        name, stream = _without_drive(path, found), ""
        if "\\" in found.separators:
            name, stream = _split_stream(name)
        source = found.lookup(name).open(stream)
        report_warnings(image, opened.warnings)
        for offset in range(0, source.size, _CHUNK_SIZE):
            sys.stdout.buffer.write(source.read_at(offset, _CHUNK_SIZE))
        sys.stdout.buffer.flush()


def extract(
    image: ImageArgument,
    path: PathArgument,
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="A new name, or a directory to put it in.")
    ],
    volume: VolumeOption = None,
    parents: ParentsOption = None,
    max_size: Annotated[
        int, typer.Option("--max-size", metavar="BYTES", help="Refuse more in all.")
    ] = _DEFAULT_MAX_SIZE,
) -> None:
    """Write a file, or a directory and all below it, to a new place here."""
    from imagetool.disk.safe_names import safe_name
    from imagetool.filesystem.extract import Extraction

    with (
        _opened_node(image, path, volume, parents) as (opened, node),
        Progress("extracting") as progress,
    ):
        report_warnings(image, opened.warnings)
        if target.is_dir():
            target = target / safe_name(
                node.path.rpartition(node.volume.separators[0])[2] or "volume"
            )
        extraction = Extraction(max_size, progress, opened.prefetch)
        if node.is_directory:
            extraction.extract_tree(node.volume, node, target)
        else:
            extraction.extract_file(node, target)
        for text in extraction.skipped:
            typer.echo(f"left out: {safe(text)}", err=True)
        if node.is_directory:
            typer.echo(f"{safe(target)}: {extraction.file_count} files", err=True)
