"""registry get and list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from imagetool.cli.emit import emit
from imagetool.cli.failure import report_warnings
from imagetool.cli.locations import opened_file
from imagetool.cli.options import (
    Format,
    FormatOption,
    ImageArgument,
    ParentsOption,
    VolumeOption,
)

if TYPE_CHECKING:
    from imagetool.registry import Key

KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="HKLM\\SOFTWARE\\…; in a hive file from its root.")
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command(
        "get",
        epilog="Example: imagetool registry get t.vhdx "
        "'HKLM\\SOFTWARE\\Microsoft\\Virtual Machine\\Auto' IntegrationServicesVersion",
    )(get)
    group.command("list", epilog="Example: imagetool registry list t.vhdx 'HKLM\\SYSTEM\\Select'")(
        list_key
    )
    app.add_typer(group, name="registry", help="Read the registry of an image or a hive file.")


Warnings = Callable[[], tuple[str, ...]]


@contextmanager
def _opened_key(
    image: str, key: str, volume: int | None, parents: Sequence[str] | None
) -> Iterator[tuple[Key, Warnings]]:
    """Open the key of an image or a hive file, and the warnings about what was read by then."""
    from imagetool.guest.image import Image
    from imagetool.guest.registry_keys import find_key, find_key_in_hive, is_hive, open_hive

    with opened_file(image) as file:
        if is_hive(file):
            hive = open_hive(file)
            found, notes = find_key_in_hive(hive, key)
            yield found, lambda: (*file.warnings, *hive.warnings, *notes)
        else:
            with Image(file, parents or ()) as opened:
                yield find_key(opened, key, volume), lambda: opened.warnings


def get(
    image: ImageArgument,
    key: KeyArgument,
    value: Annotated[
        str, typer.Argument(metavar="[VALUE]", help="Its name; without one the default value.")
    ] = "",
    output_format: FormatOption = Format.TEXT,
    volume: VolumeOption = None,
    parents: ParentsOption = None,
) -> None:
    """Print a value: text as it is, lists one a line, bytes in hexadecimal, numbers in decimal."""
    from imagetool.guest.registry_keys import get_value
    from imagetool.registry.listing import describe_value

    with _opened_key(image, key, volume, parents) as (found, warnings):
        result = describe_value(found, key, get_value(found, key, value), warnings())
    if output_format is Format.TEXT:
        report_warnings(image, result.warnings)
    emit(result, output_format)


def list_key(
    image: ImageArgument,
    key: KeyArgument,
    output_format: FormatOption = Format.TEXT,
    volume: VolumeOption = None,
    parents: ParentsOption = None,
) -> None:
    """List the subkeys and values of a key."""
    from imagetool.registry.listing import list_key as read_key

    with _opened_key(image, key, volume, parents) as (found, warnings):
        result = read_key(found, key, warnings())
    if output_format is Format.TEXT:
        report_warnings(image, result.warnings)
    emit(result, output_format)
