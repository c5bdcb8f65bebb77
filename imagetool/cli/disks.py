"""disk map and export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagetool.cli.locations import opened_image
from imagetool.cli.options import Format, FormatOption, ImageArgument, ParentsOption
from imagetool.cli.progress import Progress

if TYPE_CHECKING:
    from imagetool.guest.image import Image


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
    from imagetool.report.data import json_document
    from imagetool.report.guests import disk_data, disk_text
    from imagetool.report.text import format_size, format_table, safe

    with opened_image(image, parents) as opened:
        allocated = list(opened.disk.allocated_ranges())
        total = sum(length for _, length in allocated)
        if output_format is Format.JSON:
            content: dict[str, object] = {
                "image": opened.path,
                "disk": disk_data(opened),
                "allocated": total,
                "allocated_ranges": allocated,
                "warnings": _warnings(opened),
            }
            typer.echo(json_document("disk-map", content), nl=False)
            return
        rows = [(name, value) for name, value in opened.disk.identifiers.items()]
        rows += [("parent", name) for name in opened.disk.chain]
        rows.append(("allocated", f"{format_size(total)} in {len(allocated)} stretches"))
        rows += [("warning", text) for text in _warnings(opened)]
        typer.echo(f"{safe(opened.path)}\n{disk_text(opened)}{format_table(rows)}", nl=False)


def _warnings(opened: Image) -> list[str]:
    return [*opened.file_warnings, *opened.disk.warnings, *opened.partition_table.warnings]


def export_raw(
    image: ImageArgument,
    raw: Annotated[Path, typer.Argument(metavar="RAW", help="The new raw file.")],
    parents: ParentsOption = None,
) -> None:
    """Write the whole virtual disk to a new raw file; zeros take no room."""
    from imagetool.disk.export import export

    with opened_image(image, parents) as opened:
        with Progress("exporting") as progress:
            written = export(opened.disk, raw, progress)
        typer.echo(f"{raw}: {opened.disk.size} bytes, {written} of them stored", err=True)
