"""inspect and verify."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagetool.cli.failure import report_failure
from imagetool.cli.locations import HostSessions, Location
from imagetool.cli.options import (
    Format,
    FormatOption,
    ParentsOption,
    VolumeOption,
    local_path,
    worst_exit_code,
)
from imagetool.cli.progress import Progress
from imagetool.errors import CannotWrite, ImagetoolError, WrongUsage
from imagetool.report.text import safe

if TYPE_CHECKING:
    from imagetool.guest.image import Image
    from imagetool.package import Media
    from imagetool.verdict.verify import NoVerdict, Verification

    VerifyResult = Verification | NoVerdict

ImagesArgument = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE...", help="Disk images, HOST:PATH, or patterns like *.vhdx."),
]


class Requirement(StrEnum):
    """The requirement on a verdict."""

    INSTALLED = "installed"
    CONFIRMED = "confirmed"


class VerifyFormat(StrEnum):
    """The formats of verdicts."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    app.command(
        epilog="Example: imagetool inspect template.vhdx --format json",
    )(inspect)
    app.command(
        epilog="Example: imagetool verify 'images/*.vhdx' --at-least 6.3.9600.19456",
    )(verify)


def inspect(
    images: ImagesArgument,
    output_format: FormatOption = Format.TEXT,
    volume: VolumeOption = None,
    parents: ParentsOption = None,
) -> None:
    """What an image holds: disk, volumes, Windows, integration components."""
    from imagetool.report.data import json_document

    codes: list[int] = []
    documents: list[dict[str, object]] = []
    with HostSessions() as hosts:
        for location in hosts.locations(images):
            try:
                with location.open(parents) as image:
                    text, data = _inspect_one(image, volume)
            except ImagetoolError as error:
                codes.append(report_failure(error))
                documents.append(
                    {"image": location.name, "error": error.message, "hint": error.hint}
                )
                continue
            documents.append(data)
            if output_format is Format.TEXT:
                typer.echo(text, nl=False)
    if output_format is Format.JSON:
        typer.echo(json_document("inspect", {"images": documents}), nl=False)
    raise typer.Exit(worst_exit_code(codes))


def _inspect_one(image: Image, volume: int | None) -> tuple[str, dict[str, object]]:
    from imagetool.guest.inspection import inspect_image
    from imagetool.report import guests
    from imagetool.report.text import format_table

    found = inspect_image(image, volume)
    data: dict[str, object] = {"image": image.path, "disk": guests.disk_data(image)}
    text = f"{safe(image.path)}\n" + guests.disk_text(image)
    return text + format_table(guests.inspection_rows(found)), data | guests.inspection_data(found)


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
        Requirement | None,
        typer.Option("--require", help="What must be shown; by default by guest."),
    ] = None,
    service: Annotated[
        list[str] | None,
        typer.Option("--service", metavar="NAME", help="A service that a Linux guest must have."),
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
    from imagetool.package import Version
    from imagetool.verdict.verify import NoVerdict

    version = Version.parse(at_least) if at_least is not None else None
    if at_least is not None and version is None:
        raise WrongUsage(f"{at_least!r} is no version", hint="Write it as 6.3.9600.19456.")
    with ExitStack() as stack:
        locations = stack.enter_context(HostSessions()).locations(images)
        media = [stack.enter_context(_open_package(item)) for item in package or ()]
        criteria = {
            "at_least": version,
            "media": media,
            "require": require.value if require is not None else None,
            "volume": volume,
        }
        results: list[VerifyResult] = []
        try:
            _verify_all(locations, parents, criteria, results)
        except KeyboardInterrupt:
            if output_format is VerifyFormat.TEXT and output is None and len(results) > 1:
                _write(_render(results, output_format), None)  # the verdicts so far
            raise
    _write(_render(results, output_format), output)
    codes = [
        result.error.exit_code if isinstance(result, NoVerdict) else int(not result.verdict.holds)
        for result in results
    ]
    raise typer.Exit(worst_exit_code(codes))


def _open_package(path: str) -> Media:
    from imagetool.package import open_package

    return open_package(local_path(path))


def _verify_all(
    locations: Sequence[Location],
    parents: Sequence[str] | None,
    criteria: dict[str, Any],
    results: list[VerifyResult],
) -> None:
    """Append a verdict or an error for each image to `results`; print errors as they occur."""
    from imagetool.verdict.verify import NoVerdict
    from imagetool.verdict.verify import verify as judge

    with Progress("verifying") as progress:
        for location in locations:
            try:
                with location.open(parents) as image:
                    result = judge(image, **criteria)
                for text in result.warnings:
                    typer.echo(f"warning: {safe(location.name)}: {safe(text)}", err=True)
                results.append(result)
            except ImagetoolError as error:
                report_failure(error)
                results.append(NoVerdict(location.name, error))
            progress(len(results), len(locations))


def _render(results: Sequence[VerifyResult], output_format: VerifyFormat) -> str:
    from imagetool.report import guests
    from imagetool.verdict.verify import NoVerdict

    if output_format is VerifyFormat.JUNIT:
        from imagetool.report.junit import junit_document

        return junit_document(results)
    if output_format is VerifyFormat.JSON:
        from imagetool.report.data import json_document

        listed = [
            guests.failure_data(*item)
            if isinstance(item, NoVerdict)
            else guests.verification_data(item)
            for item in results
        ]
        return json_document("verify", {"images": listed})
    if len(results) == 1 and not isinstance(results[0], NoVerdict):
        return guests.verification_text(results[0])
    return "".join(
        guests.failure_line(*item)
        if isinstance(item, NoVerdict)
        else guests.verification_line(item)
        for item in results
    )


def _write(text: str, output: Path | None) -> None:
    if output is None:
        typer.echo(text, nl=False)
        return
    before = output.exists()
    try:
        output.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        if not before:
            with suppress(OSError):
                output.unlink(missing_ok=True)
        raise CannotWrite(
            f"{output}: cannot be written: {error.strerror}",
            hint="Is the disk full, or the directory missing or read-only?",
        ) from None
