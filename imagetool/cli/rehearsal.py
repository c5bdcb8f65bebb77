"""lab boot; lab serve comes later."""

from __future__ import annotations

import typer

from imagetool.cli.later import refuse
from imagetool.cli.options import ImageArgument, VolumeOption, here


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("boot", epilog="Example: imagetool lab boot serviced.vhdx")(boot)
    refuse(group, "serve", "An emulated host over WinRM.", "imagetool lab serve --https")
    app.add_typer(group, name="lab", help="Rehearse on an emulated Hyper-V host.")


def boot(image: ImageArgument, volume: VolumeOption = None) -> None:
    """Play the guest's first boot on an image, in place: for rehearsals, never for real images."""
    from imagetool.lab import boot as play
    from imagetool.report.text import safe

    done = play(here(image), volume)
    for identity in done.installed:
        typer.echo(f"installed {safe(identity)}")
    typer.echo(f"active and bound: wvmbus {done.driver}")
    recorded = "recorded it" if done.recorded else "is disabled and recorded nothing"
    typer.echo(f"Data Exchange {recorded}; the image is marked as booted by the emulated host")
