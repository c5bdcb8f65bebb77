"""inspect and verify."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagetool.cli.failure import fail
from imagetool.cli.options import (
    Format,
    FormatOption,
    ParentsOption,
    VolumeOption,
    here,
    worst,
)
from imagetool.errors import CannotOpen, CannotWrite, ImagetoolError, WrongUsage
from imagetool.errors import Unsupported as NotYet

if TYPE_CHECKING:
    from imagetool.guest.image import Image
    from imagetool.package import Media, Version
    from imagetool.servicing.verify import Verification

ImagesArgument = Annotated[
    list[str], typer.Argument(metavar="IMAGE...", help="Disk images, or patterns like *.vhdx.")
]


class Require(StrEnum):
    """What a verdict must show."""

    INSTALLED = "installed"
    CONFIRMED = "confirmed"


class VerifyFormat(StrEnum):
    """How verdicts are written."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="Example: imagetool inspect template.vhdx --format json",
    )(inspect)
    app.command(
        epilog="Example: imagetool verify 'images/*.vhdx' --at-least 6.3.9600.19456",
    )(verify)


def expanded(images: list[str]) -> list[Path]:
    """The images, patterns expanded. Raises CannotOpen for a pattern that nothing fits."""
    paths: list[Path] = []
    for image in images:
        path = here(image)
        if path.exists() or not glob.has_magic(str(path)):
            paths.append(path)
            continue
        found = sorted(glob.glob(str(path)))  # noqa: PTH207  # takes absolute patterns as well
        if not found:
            raise CannotOpen(f"{image}: no file fits this pattern", hint="Check the directory.")
        paths += map(Path, found)
    return paths


def inspect(
    images: ImagesArgument,
    output_format: FormatOption = Format.TEXT,
    volume: VolumeOption = None,
    parents: ParentsOption = None,
) -> None:
    """What an image holds: disk, volumes, Windows, integration components."""
    from imagetool.guest.image import open_image
    from imagetool.report.data import document

    codes: list[int] = []
    documents: list[dict[str, object]] = []
    for path in expanded(images):
        try:
            with open_image(path, parents or ()) as image:
                text, data = _inspected(image, volume)
        except ImagetoolError as error:
            codes.append(fail(error))
            documents.append({"image": str(path), "error": error.message, "hint": error.hint})
            continue
        documents.append(data)
        if output_format is Format.TEXT:
            typer.echo(text, nl=False)
    if output_format is Format.JSON:
        typer.echo(document("inspect", {"images": documents}), nl=False)
    raise typer.Exit(worst(codes))


def _inspected(image: Image, volume: int | None) -> tuple[str, dict[str, object]]:
    from imagetool.guest.inspection import inspect_image
    from imagetool.report import guests
    from imagetool.report.text import safe, table

    found = inspect_image(image, volume)
    data: dict[str, object] = {"image": image.path, "disk": guests.disk_data(image)}
    text = f"{safe(image.path)}\n" + guests.disk_text(image)
    return text + table(guests.inspection_rows(found)), data | guests.inspection_data(found)


def verify(
    images: ImagesArgument,
    at_least: Annotated[
        str | None,
        typer.Option("--at-least", metavar="VERSION", help="The version that is wanted."),
    ] = None,
    package: Annotated[
        list[str] | None,
        typer.Option("--package", metavar="PACKAGE", help="An ISO or CAB with that version."),
    ] = None,
    require: Annotated[
        Require | None, typer.Option("--require", help="What must be shown; by default by guest.")
    ] = None,
    service: Annotated[
        list[str] | None, typer.Option("--service", metavar="NAME", help="A Linux service.")
    ] = None,
    output_format: Annotated[
        VerifyFormat, typer.Option("--format", help="How the verdicts are written.")
    ] = VerifyFormat.TEXT,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Where they are written to.")
    ] = None,
    volume: VolumeOption = None,
    parents: ParentsOption = None,
) -> None:
    """Whether the integration services of images are what they should be, and why."""
    from imagetool.package import Version, open_package

    if service:
        raise NotYet(
            "--service is about Linux guests, which are not looked into yet",
            hint="Leave --service out.",
        )
    if output_format is VerifyFormat.JUNIT:
        raise NotYet("--format junit comes later", hint="Use --format json.")
    version = Version.parse(at_least) if at_least is not None else None
    if at_least is not None and version is None:
        raise WrongUsage(f"{at_least!r} is no version", hint="Write it as 6.3.9600.19456.")
    if package and len(package) > 1:
        raise NotYet("several packages in one question come later", hint="Name one --package.")
    paths = expanded(images)
    if not package:
        text, codes = _verified(paths, version, None, require, volume, parents or (), output_format)
    else:
        with open_package(here(package[0])) as media:
            text, codes = _verified(
                paths, version, media, require, volume, parents or (), output_format
            )
    if output is None:
        typer.echo(text, nl=False)
    else:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise CannotWrite(f"{output}: cannot be written: {error.strerror}") from None
    raise typer.Exit(worst(codes))


def _verified(
    paths: list[Path],
    version: Version | None,
    media: Media | None,
    require: Require | None,
    volume: int | None,
    parents: Sequence[Path],
    output_format: VerifyFormat,
) -> tuple[str, list[int]]:
    from imagetool.guest.image import open_image
    from imagetool.report import guests
    from imagetool.report.data import document
    from imagetool.report.text import safe
    from imagetool.servicing.verify import verify as judge

    results: list[Verification | tuple[str, ImagetoolError]] = []
    codes: list[int] = []
    for path in paths:
        try:
            with open_image(path, parents) as image:
                result = judge(
                    image,
                    at_least=version,
                    package=media,
                    require=require.value if require is not None else None,
                    volume=volume,
                )
        except ImagetoolError as error:
            results.append((str(path), error))
            codes.append(fail(error))
            continue
        results.append(result)
        codes.append(0 if result.verdict.holds else 1)
    if output_format is VerifyFormat.JSON:
        listed = [
            guests.failure_data(*item)
            if isinstance(item, tuple)
            else guests.verification_data(item)
            for item in results
        ]
        return document("verify", {"images": listed}), codes
    lines = []
    for item in results:
        if isinstance(item, tuple):
            lines.append(f"{safe(item[0])}: unknown ({safe(item[1].message)})\n")
        else:
            lines.append(guests.verification_text(item))
    return "".join(lines), codes
