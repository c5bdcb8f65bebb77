"""inspect and verify.

Without postponed annotations: typer would compile each of them several times at a start.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from imagetool.cli.emit import emit, reported
from imagetool.cli.failure import (
    OF_ONE_IMAGE,
    report_failure,
    report_spending,
    show_tracebacks,
    without_frames,
)
from imagetool.cli.locations import find_locations, named_images
from imagetool.cli.options import (
    DebugOption,
    Format,
    FormatOption,
    FromOption,
    OutputOption,
    ParentsOption,
    RecursiveOption,
    TrustOption,
    VerdictFormat,
    VerdictFormatOption,
    VolumeOption,
    local_path,
    worst_exit_code,
)
from imagetool.cli.progress import Progress
from imagetool.connection import OpenHosts
from imagetool.errors import ImagetoolError, WrongUsage

if TYPE_CHECKING:
    from imagetool.guest.inspection import Inspection
    from imagetool.location import Location
    from imagetool.package import Media
    from imagetool.verdict.verify import Criteria, NoVerdict, Verification

    VerifyResult = Verification | NoVerdict

ImagesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IMAGE...", help="Disk images, directories, patterns like **/*.vhdx, HOST:PATH."
    ),
]


class Requirement(StrEnum):
    """The requirement on a verdict."""

    INSTALLED = "installed"
    CONFIRMED = "confirmed"


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    app.command(
        epilog="Example: imagetool inspect template.vhdx --format json",
    )(inspect)
    app.command(
        epilog="Example: imagetool verify 'images/*.vhdx' --at-least 6.3.9600.19456",
    )(verify)


def inspect(
    images: ImagesArgument = None,
    recursive: RecursiveOption = False,
    name_files: FromOption = None,
    output_format: FormatOption = Format.TEXT,
    volume: VolumeOption = None,
    parents: ParentsOption = None,
    debug: DebugOption = False,
) -> None:
    """Show the contents of images: disk, volumes, Windows, integration components."""
    from imagetool.guest.inspection import InspectionReport, NoInspection, inspect_image

    if debug:
        show_tracebacks(True)
    codes: list[int] = []
    results: list[Inspection | NoInspection] = []

    def report(error: ImagetoolError | None) -> "InspectionReport":
        return InspectionReport(tuple(results), error)

    document = (
        nullcontext() if output_format is Format.TEXT else reported("inspect", None, "json", report)
    )
    with document, OpenHosts() as hosts:
        named = named_images(images or (), name_files or ())
        for location in find_locations(named, hosts, recursive=recursive):
            try:
                with location.open(parents) as image:
                    result = inspect_image(image, volume)
                    report_spending(location.name, image.budget)
            except OF_ONE_IMAGE as error:
                codes.append(report_failure(error, location.name))
                results.append(NoInspection(location.name, without_frames(error)))
                continue
            results.append(result)
            if output_format is Format.TEXT and not emit(result, output_format):
                break  # nobody reads any more
    raise typer.Exit(worst_exit_code(codes))


def verify(
    images: ImagesArgument = None,
    recursive: RecursiveOption = False,
    name_files: FromOption = None,
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
    strict: Annotated[bool, typer.Option("--strict", help="A warning fails.")] = False,
    accept_rehearsal: Annotated[
        bool, typer.Option("--accept-rehearsal", help="Count what the emulated host wrote.")
    ] = False,
    accept_unclean: Annotated[
        bool, typer.Option("--accept-unclean", help="Judge a Linux whose journal is not replayed.")
    ] = False,
    trust: TrustOption = None,
    output_format: VerdictFormatOption = VerdictFormat.TEXT,
    output: OutputOption = None,
    volume: VolumeOption = None,
    parents: ParentsOption = None,
) -> None:
    """Judge the integration services of images: are they what they should be, and why."""
    from imagetool.package import Version
    from imagetool.package.trust import read_trusted_roots
    from imagetool.verdict.verify import Criteria, NoVerdict, VerificationReport

    results: list[VerifyResult] = []
    seconds: list[float] = []
    started_at = datetime.now(UTC)

    def report(error: ImagetoolError | None) -> "VerificationReport":
        return VerificationReport(tuple(results), error, started_at, tuple(seconds))

    inputs = [*(images or ()), *(package or ()), *(trust or ()), *(name_files or ())]
    with reported("verify", output, output_format, report, inputs), ExitStack() as stack:
        version = Version.parse(at_least) if at_least is not None else None
        if at_least is not None and version is None:
            raise WrongUsage(f"{at_least!r} is no version", hint="Write it as 6.3.9600.19456.")
        names = named_images(images or (), name_files or ())
        hosts = stack.enter_context(OpenHosts())
        locations = find_locations(names, hosts, recursive=recursive)
        criteria = Criteria(
            at_least=version,
            media=[stack.enter_context(_open_package(item)) for item in package or ()],
            require=require.value if require is not None else None,
            strict=strict,
            accept_rehearsal=accept_rehearsal,
            accept_unclean=accept_unclean,
            trusted=read_trusted_roots(trust or ()),
            services=tuple(service or ()),
        )
        try:
            for result, duration in _verify_all(locations, parents, volume, criteria):
                results.append(result)
                seconds.append(duration)
        except KeyboardInterrupt:
            if output_format is VerdictFormat.TEXT and output is None and len(results) > 1:
                emit(report(None), output_format)  # the verdicts so far
            missing = len(locations) - len(results)
            raise KeyboardInterrupt(
                f"interrupted: {missing} of {len(locations)} images were not judged"
            ) from None
    codes = [
        result.error.exit_code if isinstance(result, NoVerdict) else int(not result.holds)
        for result in results
    ]
    raise typer.Exit(worst_exit_code(codes))


def _open_package(path: str) -> "Media":
    from imagetool.package import open_package

    return open_package(local_path(path))


def _verify_all(
    locations: "Sequence[Location]",
    parents: Sequence[str] | None,
    volume: int | None,
    criteria: "Criteria",
) -> "Iterator[tuple[VerifyResult, float]]":
    """Yield a verdict or an error for each image, and the seconds that it took.

    Errors are printed as they occur.
    """
    from imagetool.verdict.verify import NoVerdict
    from imagetool.verdict.verify import verify as judge

    with Progress("verifying") as progress:
        for number, location in enumerate(locations, start=1):
            begun = time.perf_counter()
            result: VerifyResult
            try:
                with location.open(parents) as image:
                    result = judge(image, criteria, volume=volume)
            except OF_ONE_IMAGE as error:
                report_failure(error, location.name)
                result = NoVerdict(location.name, without_frames(error))
            yield result, time.perf_counter() - begun
            progress(number, len(locations))
