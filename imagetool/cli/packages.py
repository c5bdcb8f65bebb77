"""package show, list, extract and check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagetool.cli.emit import emit, reported
from imagetool.cli.failure import report_warnings
from imagetool.cli.options import (
    Format,
    FormatOption,
    OutputOption,
    TrustOption,
    VerdictFormat,
    VerdictFormatOption,
    local_path,
)
from imagetool.errors import CannotWrite, ImagetoolError, NotRecognised, Unsupported
from imagetool.report.text import safe

if TYPE_CHECKING:
    from imagetool.package.disc import Disc, DiscFile

PackageArgument = Annotated[
    str,
    typer.Argument(metavar="PACKAGE", help="A vmguest.iso, a CAB, or a folder with update.mum."),
]
_DEFAULT_MAX_SIZE = 1 << 30


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the program."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("show", epilog="Example: imagetool package show vmguest.iso")(show)
    group.command("list", epilog="Example: imagetool package list vmguest.iso")(list_members)
    group.command("extract", epilog="Example: imagetool package extract Windows6.2.cab folder")(
        extract
    )
    example = "Example: imagetool package check vmguest.iso --trust our-root.pem"
    group.command("check", epilog=example)(check)
    app.add_typer(group, name="package", help="Look into what is to be injected.")


def show(
    package: PackageArgument,
    output_format: FormatOption = Format.TEXT,
    brief: Annotated[
        bool, typer.Option("--brief", help="What update.mum says; no services, no signature.")
    ] = False,
) -> None:
    """Show a package: its identity, the systems that it is for, its drivers and services."""
    from imagetool.package import open_package
    from imagetool.package.summary import summarise_media

    with open_package(local_path(package)) as media:
        result = summarise_media(media, brief=brief)
    if output_format is Format.TEXT:
        report_warnings(package, result.warnings)
    emit(result, output_format)


def list_members(package: PackageArgument, output_format: FormatOption = Format.TEXT) -> None:
    """List the files of a disc, cabinet or folder."""
    from imagetool.package import open_media
    from imagetool.package.summary import list_media

    with open_media(local_path(package)) as media:
        result = list_media(media)
    if output_format is Format.TEXT:
        report_warnings(package, result.warnings)
    emit(result, output_format)


def extract(
    package: PackageArgument,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A directory, new or empty.")],
    max_size: Annotated[
        int, typer.Option("--max-size", metavar="BYTES", help="Refuse more than this in all.")
    ] = _DEFAULT_MAX_SIZE,
) -> None:
    """Write all files of a cabinet or disc into a directory."""
    from functools import partial

    from imagetool.disk.safe_names import safe_path
    from imagetool.package import open_media

    with open_media(local_path(package)) as media:
        items: list[tuple[str, int, Callable[[], Iterable[bytes]]]] = []
        warnings = list(media.warnings)
        if media.disc is not None:
            disc = media.disc
            links = [file for file in disc.files if file.target is not None]
            warnings += [f"{file.path} is a link to {file.target}: not written" for file in links]
            for file in disc.files:
                if file.target is None:
                    items.append((file.path, file.size, partial(_pieces, disc, file)))
        elif media.cabinet is not None:
            cabinet = media.cabinet
            for member in sorted(cabinet.members, key=lambda item: (item.folder, item.offset)):
                items.append((member.name, member.size, partial(cabinet.chunks, member)))
        else:
            raise NotRecognised(
                f"{package}: a folder is extracted already", hint="Name a CAB or an ISO."
            )
        total = sum(size for _, size, _ in items)
        if total > max_size:
            raise CannotWrite(
                f"{package}: {total} bytes are more than --max-size {max_size} allows",
                hint="Raise --max-size if you trust the package.",
            )
        # All names are checked before the first byte is written.
        destinations = [safe_path(target, name) for name, _, _ in items]
        refused = _write_files(
            [
                (read, destination)
                for (_, _, read), destination in zip(items, destinations, strict=True)
            ],
        )
    report_warnings(package, warnings)
    count = len(items) - len(refused)
    typer.echo(f"{target}: {count} files of {len(items)}", err=True)
    if refused:
        for error in refused[1:]:
            typer.echo(f"imagetool: {safe(error.message)}", err=True)
        raise refused[0]


def _pieces(disc: Disc, file: DiscFile) -> Iterable[bytes]:
    """Read a file of a disc, a piece at a time. Raises as Disc.open."""
    from imagetool.disk.source import read_in_pieces

    return read_in_pieces(disc.open(file))


def _write_files(
    items: Sequence[tuple[Callable[[], Iterable[bytes]], Path]],
) -> list[Unsupported]:
    """Write the files that can be read; return the errors of those that are unsupported.

    Any other error, or an interruption, removes what was written.
    """
    from imagetool.disk.new_file import new_file

    refused: list[Unsupported] = []
    made: list[Path] = []
    try:
        for read, destination in items:
            try:
                pieces = iter(read())
                first = next(pieces, b"")
            except Unsupported as error:
                refused.append(error)
                continue
            missing = [folder for folder in (destination.parent, *destination.parent.parents)
                       if not folder.exists()]  # fmt: skip
            try:
                destination.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CannotWrite(f"{destination.parent}: {error.strerror}") from None
            made += reversed(missing)
            with new_file(destination) as file:
                file.write(first)
                file.writelines(pieces)
            made.append(destination)
    except BaseException:  # an interruption, too
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        raise
    return refused


def check(
    package: PackageArgument,
    trust: TrustOption = None,
    output_format: VerdictFormatOption = VerdictFormat.TEXT,
    output: OutputOption = None,
) -> None:
    """Check that a package is genuine: its signature, its catalog, the digest of every file."""
    from imagetool.package import open_package
    from imagetool.package.signature.check import MediaReport, check_media
    from imagetool.package.trust import read_trusted_roots

    found: list[MediaReport] = []

    def report(error: ImagetoolError | None) -> MediaReport:
        return found[0] if found else MediaReport(package, (), error=error)

    with reported("package-check", output, output_format, report, [package, *(trust or ())]):
        roots = read_trusted_roots(trust or ())
        with open_package(local_path(package)) as media:
            found.append(check_media(media, roots))
    raise typer.Exit(found[0].exit_code)
