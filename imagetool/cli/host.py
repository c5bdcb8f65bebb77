"""host check, login, logout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imagetool.cli.emit import emit
from imagetool.cli.options import Format, FormatOption

if TYPE_CHECKING:
    from imagetool.host.configuration.address import ConfiguredHost

HostArgument = Annotated[
    str,
    typer.Argument(
        metavar="HOST", help="local, lab, a name from the configuration, a DNS name, or a URL."
    ),
]
UserOption = Annotated[
    str, typer.Option("--user", metavar="NAME", help="By default the configuration's, or asked.")
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    example = "Example: imagetool host check hv01 --path 'D:\\images\\template.vhdx'"
    group.command("check", epilog=example)(check)
    group.command("login", epilog="Example: imagetool host login hv01 --user 'EXAMPLE\\admin'")(
        login
    )
    group.command("logout", epilog="Example: imagetool host logout hv01")(logout)
    app.add_typer(group, name="host", help="Check a host, and keep its password.")


def check(
    host: HostArgument,
    path: Annotated[
        str, typer.Option("--path", metavar="PATH", help="An image or a directory on the host.")
    ] = "",
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test",
            help="Also try the host out, harmlessly; prints a report to send in, without names.",
        ),
    ] = False,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Check whether a host can be used, and say what it lacks; nothing is changed there."""
    from imagetool.connection import named_host, session_opener
    from imagetool.host.check import check_host

    chosen = named_host(host)
    checked = check_host(chosen, session_opener(chosen), path, self_test=self_test)
    emit(checked, output_format)
    raise typer.Exit(0 if checked.usable else 4)


def login(host: HostArgument, user: UserOption = "") -> None:
    """Ask for a password and keep it in the system's keyring."""
    from imagetool.host.configuration.credentials import store_password
    from imagetool.report.text import safe

    chosen = _winrm_host(host)
    stored = store_password(chosen, user)
    typer.echo(f"the keyring has the password of {safe(stored)} on {chosen.origin}", err=True)


def logout(host: HostArgument, user: UserOption = "") -> None:
    """Take a password out of the system's keyring."""
    from imagetool.host.configuration.credentials import delete_password
    from imagetool.report.text import safe

    chosen = _winrm_host(host)
    gone = delete_password(chosen, user)
    typer.echo(f"the keyring no longer has the password of {safe(gone)} on {chosen.origin}",
               err=True)  # fmt: skip


def _winrm_host(text: str) -> ConfiguredHost:
    from imagetool.connection import named_host
    from imagetool.errors import WrongUsage

    chosen = named_host(text)
    if not chosen.remote:
        raise WrongUsage(f"{chosen.name} needs no password", hint="Name a host over WinRM.")
    return chosen
