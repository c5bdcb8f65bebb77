"""disk map and export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imagetool.cli.emit import emit
from imagetool.cli.failure import report_warnings
from imagetool.cli.locations import opened_image
from imagetool.cli.options import Format, FormatOption, ImageArgument, ParentsOption
from imagetool.cli.progress import Progress


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("map", epilog="Example: imagetool disk map template.vhdx")(show_map)
    group.command("export", epilog="Example: imagetool disk export template.vhdx template.raw")(
        export_raw
    )
    app.add_typer(group, name="disk", help="Look at the disk in an image, or export it.")


def show_map(
    image: ImageArgument,
    output_format: FormatOption = Format.TEXT,
    parents: ParentsOption = None,
) -> None:
    """The container, its partitions and volumes, and what is allocated."""
    from imagetool.guest.disk_map import map_disk

    with opened_image(image, parents) as opened:
        result = map_disk(opened)
    emit(result, output_format)


def export_raw(
    image: ImageArgument,
    raw: Annotated[Path, typer.Argument(metavar="RAW", help="The new raw file.")],
    parents: ParentsOption = None,
) -> None:
    """Write the whole virtual disk to a new raw file; zeros take no room."""
    from imagetool.disk.export import export

    with opened_image(image, parents) as opened:
        report_warnings(image, opened.warnings)
        with Progress("exporting") as progress:
            written = export(opened.disk, raw, progress)
        typer.echo(f"{raw}: {opened.disk.size} bytes, {written} of them stored", err=True)
