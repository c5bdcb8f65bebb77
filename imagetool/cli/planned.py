"""Planned commands that are not implemented yet: each fails with exit code 3."""

from __future__ import annotations

import typer

from imagetool.errors import Unsupported

_COMMANDS = (
    ("rollback", "The previous image back in its place.", "imagetool rollback t.vhdx"),
    ("discard", "The previous image deleted.", "imagetool discard t.vhdx"),
    ("recover", "What an interrupted inject left.", "imagetool recover --host hv01"),
    ("service", "Integration services of a VM.", "imagetool service list --vm web01"),
    ("guest-service", "Services in a guest.", "imagetool guest-service list --vm web01"),
    ("setup-disk", "vmguest.iso in a VM's drive.", "imagetool setup-disk insert --vm web01"),
    ("advise", "Which mechanism updates a guest.", "imagetool advise --table"),
)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    for name, text, example in _COMMANDS:
        add_planned(app, name, text, example)


def add_planned(group: typer.Typer, name: str, text: str, example: str) -> None:
    """Add a command that accepts any arguments and raises Unsupported."""

    def refuse(context: typer.Context) -> None:
        raise Unsupported(
            f"`{context.command_path}` comes later",
            hint="`imagetool --help` lists the commands; those that come later say so.",
        )

    group.command(
        name,
        help=f"Later: {text}",
        epilog=f"Example: {example}",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )(refuse)
