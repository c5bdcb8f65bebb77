"""lab boot, lab serve, lab status, lab reset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from imagetool.cli.options import ImageArgument, VolumeOption, local_path


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("boot", epilog="Example: imagetool lab boot serviced.vhdx")(boot)
    group.command("serve", epilog="Example: imagetool lab serve --https --port 5986")(serve)
    group.command("status", epilog="Example: imagetool lab status")(status)
    group.command("reset", epilog="Example: imagetool lab reset")(reset)
    app.add_typer(group, name="lab", help="Rehearse on an emulated Hyper-V host.")


def boot(
    image: ImageArgument,
    force: Annotated[
        bool, typer.Option("--force", help="Also an image that the lab did not service.")
    ] = False,
    volume: VolumeOption = None,
) -> None:
    """Play the guest's first boot on an image, in place: for rehearsals, never for real images."""
    from imagetool.lab import boot as play
    from imagetool.report.text import safe

    done = play(local_path(image), volume, force=force)
    for identity in done.installed:
        typer.echo(f"installed {safe(identity)}")
    typer.echo(f"active and bound: wvmbus {done.driver}")
    recorded = "recorded it" if done.recorded else "is disabled and recorded nothing"
    typer.echo(f"Data Exchange {recorded}; the image is marked as booted by the emulated host")


def serve(
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="A TOML file with a table [limits]."),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="0 finds a free one.")
    ] = 0,
    https: Annotated[
        bool, typer.Option("--https", help="With a certificate that is made for this start.")
    ] = False,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name", metavar="NAME=DIRECTORY", help="Another name of a directory there; repeated."
        ),
    ] = None,
) -> None:
    """An emulated host over WinRM, on 127.0.0.1, until interrupted; one line of JSON says where."""
    import json
    import signal
    import threading

    from imagetool.lab.winrm import Endpoint, Limits, read_limits

    limits = Limits() if config is None else read_limits(config)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with Endpoint(
        https=https, port=port, limits=limits, lasting=True, names=";".join(name or ())
    ) as endpoint:
        certificate = endpoint.certificate
        line = {
            "url": endpoint.url,
            "user": endpoint.user,
            "password": endpoint.password,
            "certificate": None if certificate is None else str(certificate),
        }
        typer.echo(json.dumps(line))
        while not stop.wait(1.0):  # in pieces: Windows hears Ctrl-C only between two waits
            pass


EffectsOption = Annotated[
    bool, typer.Option("--effects", help="List what the host does as Windows does, and its source.")
]


def status(effects: EffectsOption = False) -> None:
    """Say whether an emulated host runs, and what it has mounted."""
    if effects:
        _echo_effects()
        return
    from imagetool.lab.lasting_host import find_host, state_directory

    directory = state_directory()
    door = find_host(directory)
    if door is None:
        typer.echo("no emulated host runs")
        return
    found = door.status()
    typer.echo(f"an emulated host runs: process {found['process']}, {_sessions(found)}")
    _echo_disks(found)


def reset() -> None:
    """Dismount every disk of the emulated host, and end it."""
    from imagetool.lab.lasting_host import reset_host, state_directory

    found = reset_host(state_directory())
    if found is None:
        typer.echo("no emulated host runs")
        return
    typer.echo(f"ended the emulated host: process {found['process']}, {_sessions(found)}")
    _echo_disks(found, "dismounted ")


def _echo_effects() -> None:
    from imagetool.lab.effects import effects

    cmdlet = ""
    for item in effects():
        if item.cmdlet != cmdlet:
            cmdlet = item.cmdlet
            typer.echo(cmdlet)
        typer.echo(f"  {item.what}")
        typer.echo(f"    {'a guess' if item.is_guess else f'confirmed by {item.known}'}")


def _sessions(found: Mapping[str, object]) -> str:
    return "1 session" if found["sessions"] == 1 else f"{found['sessions']} sessions"


def _echo_disks(found: Mapping[str, object], done: str = "") -> None:
    from imagetool.report.text import safe

    disks = found.get("disks")
    if not disks:
        typer.echo("no disk is mounted")
    for disk in disks if isinstance(disks, list) else ():
        state = "offline" if disk["offline"] else "read-only" if disk["read_only"] else "writable"
        typer.echo(f"{done}disk {disk['number']}  {state:<9}  {safe(disk['path'])}")
        for number, paths in disk["access_paths"].items():
            for path in paths:
                typer.echo(f"{done}  partition {number} in {safe(path)}")
