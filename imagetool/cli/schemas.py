"""schema."""

from __future__ import annotations

from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Add the command of this module to the program."""
    app.command(
        "schema", epilog="Example: imagetool schema verify > imagetool-verify-1.schema.json"
    )(show_schema)


def show_schema(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="verify, package-check …; without one the list."),
    ] = None,
) -> None:
    """Print the JSON Schema of a document, or the names of all documents."""
    from imagetool.report.schemas import format_schema, list_schemas

    typer.echo(list_schemas() if name is None else format_schema(name), nl=False)
