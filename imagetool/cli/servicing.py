"""inject."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagetool.cli.emit import emit
from imagetool.cli.options import (
    Format,
    FormatOption,
    HostOption,
    TrustOption,
    VolumeOption,
    local_path,
)
from imagetool.errors import Unsupported
from imagetool.report.text import safe

if TYPE_CHECKING:
    from imagetool.contracts import Event
    from imagetool.package.signature.check import PackageReport


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    app.command(
        epilog="Example: imagetool inject template.vhdx --package vmguest.iso --host local "
        "--output serviced.vhdx",
    )(inject)


def inject(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The image; it stays as it is.")],
    package: Annotated[
        list[str], typer.Option("--package", metavar="PACKAGE", help="An ISO or a CAB.")
    ],
    host: HostOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="NEW", help="The serviced copy, a new file.")
    ] = None,
    driver: Annotated[
        list[str] | None, typer.Option("--driver", metavar="DIR", help="Comes later.")
    ] = None,
    strategy: Annotated[
        str | None, typer.Option("--strategy", metavar="NAME", help="Comes later.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="Comes later.")
    ] = None,
    allow_unsigned: Annotated[
        bool,
        typer.Option("--allow-unsigned", help="Also a package that is unsigned, or by a stranger."),
    ] = False,
    trust: TrustOption = None,
    output_format: FormatOption = Format.TEXT,
    volume: VolumeOption = None,
) -> None:
    """Put integration services into a copy of an image, and prove it."""
    from imagetool.connection import servicing_host, session_opener
    from imagetool.package.trust import read_trusted_roots
    from imagetool.servicing.inject import inject as service

    for name, given in (("--driver", driver), ("--strategy", strategy), ("--plan", plan)):
        if given:
            raise Unsupported(f"{name} comes later", hint="Leave it out.")
    if len(package) > 1:
        raise Unsupported("several packages at once come later", hint="Name one --package.")
    if output is None:
        raise Unsupported(
            "servicing an image in place comes later", hint="Name the serviced copy with --output."
        )
    chosen = servicing_host(host)
    opener = session_opener(chosen)
    steps = _StepReporter()
    result = service(
        local_path(image),
        local_path(package[0]),
        opener,
        output,
        volume=volume,
        allow_unsigned=allow_unsigned,
        trusted=read_trusted_roots(trust or ()),
        on_step=steps.begin,
        on_event=steps.event,
    )
    steps.end()
    if output_format is Format.JSON:
        emit(result, output_format)
    elif result.proof is None:
        typer.echo(
            f"{safe(image)}: nothing to do, and no file was made ({safe(result.plan.reason)})"
        )
    else:
        typer.echo(
            f"{safe(str(output))}: {safe(result.plan.identity)} {safe(result.package_state)}, "
            f"proved; verdict {result.proof.verdict.outcome.value}\n"
            f"{_format_signature(result.plan.signature)}"
            f"serviced by {safe(result.host_description)} on {safe(chosen.name)}; "
            f"{safe(image)} is as it was"
        )


def _format_signature(report: PackageReport | None) -> str:
    """A line about who signed what was injected."""
    if report is None:
        return ""
    signer = next((item.signer for item in report.findings if item.signer is not None), None)
    if report.judgement.value == "genuine" and signer is not None:
        return f"genuine: signed by {safe(signer.name)}, under {safe(signer.root)}\n"
    return f"the package is {report.judgement.value}, which was allowed\n"


class _StepReporter:
    """Prints steps on standard error as they begin, with the time since the start."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._clock: Callable[[], float] = time.monotonic

    def begin(self, step: str) -> None:
        """Print a step."""
        self._clear()
        typer.echo(f"{self._clock() - self._started:6.1f} s  {safe(step)}", err=True)

    def event(self, event: Event) -> None:
        """Print a warning; show progress on a terminal."""
        if event.kind == "warning":
            self._clear()
            typer.echo(f"warning from the host: {safe(event.text)}", err=True)
        elif self._terminal and event.percent is not None:
            typer.echo(f"\r          {event.percent:3} %", nl=False, err=True)

    def _clear(self) -> None:
        if self._terminal:
            typer.echo("\r\x1b[K", nl=False, err=True)

    def end(self) -> None:
        """Clear the progress from the terminal."""
        self._clear()
