"""plan and inject."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from imagetool.cli.emit import emit, reported, write_file
from imagetool.cli.failure import OF_ONE_IMAGE, report_failure, without_frames
from imagetool.cli.locations import find_locations, named_images
from imagetool.cli.options import (
    Format,
    FormatOption,
    FromOption,
    HostOption,
    ImageArgument,
    RecursiveOption,
    TrustOption,
    VolumeOption,
    local_path,
    worst_exit_code,
)
from imagetool.connection import OpenHosts, named_host, servicing_host, servicing_opener
from imagetool.errors import ImagetoolError, Unsupported, WrongUsage
from imagetool.report.text import safe

if TYPE_CHECKING:
    from imagetool.host.configuration import ConfiguredHost
    from imagetool.location import Location
    from imagetool.servicing.inject import FailedInjection, HowItWent, Injection, InjectionReport
    from imagetool.servicing.plan import Plan
    from imagetool.servicing.planning import Prepared, Target
    from imagetool.servicing.transaction import StepProgress

AllowUnsignedOption = Annotated[
    bool,
    typer.Option("--allow-unsigned", help="Also a package that is unsigned, or by a stranger."),
]
_OUTPUT_HELP = "The serviced copy, a new file; of several images a directory."


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    app.command(
        epilog="Example: imagetool plan template.vhdx --package vmguest.iso --save plan.json",
    )(plan)
    app.command(
        epilog="Example: imagetool inject 'hv01:D:\\images\\t.vhdx' --package vmguest.iso "
        "--output 'hv01:D:\\images\\s.vhdx'",
    )(inject)


def plan(
    image: ImageArgument,
    package: Annotated[str, typer.Option("--package", metavar="PACKAGE", help="An ISO or a CAB.")],
    host: HostOption = None,
    output: Annotated[
        str | None,
        typer.Option("--output", metavar="NEW", help="By default NAME-serviced beside the image."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Keep it, for inject --plan.")
    ] = None,
    digest: Annotated[
        bool, typer.Option("--digest", help="Have both disks hashed by the host in the end.")
    ] = False,
    allow_unsigned: AllowUnsignedOption = False,
    trust: TrustOption = None,
    output_format: FormatOption = Format.TEXT,
    volume: VolumeOption = None,
) -> None:
    """Say what inject would do, and touch nothing."""
    from imagetool.location import Location
    from imagetool.package.trust import read_trusted_roots
    from imagetool.report import render
    from imagetool.servicing.planning import prepare
    from imagetool.servicing.targets import absolute, default_output, strategy_for

    with OpenHosts() as hosts:
        location = absolute(Location.parse(image, hosts.files))
        named = Location.parse(output, hosts.files) if output is not None else None
        new = absolute(named or default_output(location))
        target = _target(location, new, _chosen_host([location, new], host))
        prepared = prepare(
            location,
            local_path(package).absolute(),
            target,
            strategy_for(target, digest=digest),
            volume,
            name=image,
            allow_unsigned=allow_unsigned,
            trusted=read_trusted_roots(trust or ()),
        )
    if save is not None:
        write_file(save, render(prepared.plan, "json"), inputs=[image, package])
    emit(prepared.plan, output_format)


def inject(
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGE...", help="Images, patterns, HOST:PATH; they stay as is."),
    ] = None,
    package: Annotated[
        list[str] | None, typer.Option("--package", metavar="PACKAGE", help="An ISO or a CAB.")
    ] = None,
    host: HostOption = None,
    output: Annotated[
        str | None, typer.Option("--output", metavar="NEW", help=_OUTPUT_HELP)
    ] = None,
    plan_file: Annotated[
        Path | None,
        typer.Option("--plan", metavar="FILE", help="Do what a saved plan says, and only that."),
    ] = None,
    digest: Annotated[
        bool, typer.Option("--digest", help="Have both disks hashed by the host in the end.")
    ] = False,
    recursive: RecursiveOption = False,
    name_files: FromOption = None,
    driver: Annotated[
        list[str] | None, typer.Option("--driver", metavar="DIR", help="Comes later.")
    ] = None,
    allow_unsigned: AllowUnsignedOption = False,
    trust: TrustOption = None,
    output_format: FormatOption = Format.TEXT,
    volume: VolumeOption = None,
) -> None:
    """Put integration services into copies of images, and prove each."""
    from imagetool.package.trust import read_trusted_roots
    from imagetool.servicing.inject import FailedInjection, InjectionReport

    if driver:
        raise Unsupported("--driver comes later", hint="Leave it out.")
    if package is not None and len(package) > 1:
        raise Unsupported("several packages at once come later", hint="Name one --package.")
    results: list[Injection | FailedInjection] = []
    codes: list[int] = []
    failed: list[HowItWent] = []

    def report(error: ImagetoolError | None) -> InjectionReport:
        return InjectionReport(tuple(results), error)

    document = (
        nullcontext() if output_format is Format.TEXT else reported("inject", None, "json", report)
    )
    with document, OpenHosts() as hosts:
        request = _Request(
            package=package[0] if package else "",
            output=output or "",
            host=host,
            volume=volume,
            digest=digest,
            allow_unsigned=allow_unsigned,
        )
        roots = read_trusted_roots(trust or ())
        if plan_file is not None:
            jobs = [_planned_job(plan_file, images or (), request, hosts)]
        else:
            jobs = _jobs(named_images(images or (), name_files or ()), request, hosts, recursive)
        for job in jobs:
            steps = _StepReporter()
            prepared = None
            failed.clear()
            try:
                prepared = job.prepare(request, roots)
                result = job.run(prepared, steps, failed)
            except OF_ONE_IMAGE as error:
                steps.end()
                codes.append(report_failure(error, job.name))
                went = failed[0] if failed else ((), (), "")
                made = prepared.plan if prepared is not None else None
                failure = without_frames(error)
                results.append(FailedInjection(job.name, failure, made, *went))
                continue
            steps.end()
            results.append(result)
            if output_format is Format.TEXT:
                emit(result, output_format)
        if output_format is Format.TEXT and len(jobs) > 1:
            typer.echo(_summary(results))
    raise typer.Exit(worst_exit_code(codes))


class _Request(NamedTuple):
    """The options of an injection."""

    package: str
    output: str
    host: str | None
    volume: int | None
    digest: bool
    allow_unsigned: bool


class _Job(NamedTuple):
    """An image that is to be serviced, its package and its target, by a saved plan or none."""

    name: str
    """The name of the image, as the command line has it."""
    image: Location
    """Its location, by its whole path."""
    package: Path
    host: ConfiguredHost
    target: Target
    output_name: str
    saved: Plan | None = None

    def prepare(self, request: _Request, roots: Sequence[object]) -> Prepared:
        """Make the plan, or make it again and compare it with the saved one."""
        from imagetool.servicing.inject import check_unchanged
        from imagetool.servicing.planning import prepare
        from imagetool.servicing.targets import strategy_for

        saved = self.saved
        prepared = prepare(
            self.image,
            self.package,
            self.target,
            strategy_for(self.target, saved, digest=request.digest),
            request.volume if saved is None else saved.image.volume,
            name=self.name,
            allow_unsigned=request.allow_unsigned,
            trusted=roots,  # type: ignore[arg-type]  # certificates, whose type is slow to import
        )
        if saved is None:
            return prepared
        check_unchanged(self.image.files, self.image.path, saved, prepared.plan)
        return prepared._replace(plan=saved)

    def run(self, prepared: Prepared, steps: _StepReporter, failed: list[HowItWent]) -> Injection:
        """Do what the plan says."""
        from imagetool.servicing.inject import inject

        return inject(
            prepared,
            servicing_opener(self.host),
            output_name=self.output_name,
            on_progress=steps.show,
            on_failure=failed.append,
        )


def _chosen_host(locations: Sequence[Location], option: str | None) -> ConfiguredHost:
    from imagetool.servicing.targets import common_host

    named = common_host(locations, option)
    if named is not None and named != option:
        return named_host(named, url_allowed=False)
    return servicing_host(option)


def _target(image: Location, output: Location, host: ConfiguredHost) -> Target:
    from imagetool.servicing.targets import find_target

    return find_target(image, output, host)


def _jobs(
    images: Sequence[str], request: _Request, hosts: OpenHosts, recursive: bool
) -> list[_Job]:
    from imagetool.location import Location
    from imagetool.servicing.targets import absolute

    if not request.package:
        raise WrongUsage("No package is named", hint="Name an ISO or a CAB with --package.")
    if not request.output:
        raise Unsupported(
            "servicing an image in place comes later", hint="Name the serviced copy with --output."
        )
    found = find_locations(images, hosts, recursive=recursive)
    several = len(found) != 1 or [str(item) for item in found] != list(images)
    named = Location.parse(request.output, hosts.files)
    host = _chosen_host([*found, named], request.host)
    output, package = absolute(named), local_path(request.package).absolute()
    jobs: dict[str, _Job] = {}
    for item in found:
        image = item if item.failure is not None else absolute(item)
        new = named.join(image.file_name) if several else named
        target = _target(image, output.join(image.file_name) if several else output, host)
        job = _Job(str(item), image, package, host, target, str(new))
        other = jobs.setdefault(target.output.lower(), job)
        if other.image != image:
            raise WrongUsage(
                f"{item}: {other.name} has the same name, and both would be {new}",
                hint="Name them in two commands, with a directory each.",
            )
    return list(jobs.values())


def _planned_job(
    plan_file: Path, images: Sequence[str], request: _Request, hosts: OpenHosts
) -> _Job:
    from imagetool.location import Location
    from imagetool.servicing.plan import read_plan
    from imagetool.servicing.planning import Target
    from imagetool.servicing.targets import absolute

    saved = read_plan(plan_file)
    image = Location.parse(saved.image.location, hosts.files)
    named = [absolute(Location.parse(item, hosts.files)) for item in images]
    if any(item != image for item in named):
        raise WrongUsage(
            f"{named[0]}: the plan is for {image}", hint="Leave the image out: the plan names it."
        )
    package = Path(saved.package.media)
    if request.package and local_path(request.package).absolute() != package:
        raise WrongUsage(
            f"{request.package}: the plan is for {package}",
            hint="Leave --package out: the plan names it.",
        )
    if request.output or request.digest:
        raise WrongUsage(
            f"{plan_file}: the plan says what its output is, and whether disks are hashed",
            hint="Leave --output and --digest out, or plan again with them.",
        )
    if request.host is not None and request.host.lower() != saved.host.lower():
        raise WrongUsage(
            f"{request.host}: the plan is for the host {saved.host}", hint="Leave --host out."
        )
    host = named_host(saved.host)
    target = Target(saved.host, saved.image.path, saved.output)
    output = f"{saved.host}:{saved.output}" if image.host or host.remote else saved.output
    return _Job(saved.image.name, image, package, host, target, output, saved)


def _summary(results: Sequence[Injection | FailedInjection]) -> str:
    from imagetool.servicing.inject import Injection

    done = [item for item in results if isinstance(item, Injection)]
    injected = sum(item.proof is not None for item in done)
    failed = len(results) - len(done)
    return f"{injected} injected; {len(done) - injected} with nothing to do; {failed} failed"


class _StepReporter:
    """Prints steps on standard error as they begin, with the time since the start."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def show(self, progress: StepProgress) -> None:
        """Print a step that begins, or a warning; show a percentage on a terminal."""
        event = progress.event
        if event is None:
            self.end()
            seconds = time.monotonic() - self._started
            typer.echo(f"{seconds:6.1f} s  {safe(progress.title)}", err=True)
        elif event.kind == "warning":
            self.end()
            typer.echo(f"warning from the host: {safe(event.text)}", err=True)
        elif event.kind == "waiting":
            self.end()
            typer.echo(f"          {safe(event.text)}", err=True)
        elif self._terminal and event.percent is not None:
            typer.echo(f"\r          {event.percent:3} %", nl=False, err=True)

    def end(self) -> None:
        """Clear the percentage from the terminal."""
        if self._terminal:
            typer.echo("\r\x1b[K", nl=False, err=True)
