"""Virtual disk containers (VHDX, VHD, raw), recognised by their signatures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from imagetool.contracts import Range, Source
from imagetool.disk.source import file_size_warnings
from imagetool.disk.vhdx import SIGNATURE, Vhdx
from imagetool.errors import NotRecognised, Unsupported

if TYPE_CHECKING:
    from imagetool.disk.parents import ParentLocator
    from imagetool.disk.vhd import Vhd


@runtime_checkable
class Disk(Source, Protocol):
    """A virtual disk: a source of its sectors, and the metadata of its container."""

    @property
    def format(self) -> str:
        """VHDX, VHD or raw."""

    @property
    def kind(self) -> str:
        """dynamic, fixed, differencing or raw."""

    @property
    def sector_size(self) -> int:
        """The logical sector size in bytes; 512 for a raw file."""

    @property
    def identifiers(self) -> dict[str, str]:
        """The identifiers of the container, by the names of its specification."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the container, each one sentence."""

    @property
    def chain(self) -> tuple[str, ...]:
        """The names of a differencing disk's parents, the nearest first."""

    def allocated_ranges(self) -> Iterator[Range]:
        """The ranges of the disk that are stored, ascending and merged."""

    def close(self) -> None:
        """Close the files of the parents that opening the disk opened."""


class RawDisk:
    """A file that holds the sectors of the disk and nothing else."""

    format = "raw"
    kind = "raw"
    sector_size = 512
    chain: tuple[str, ...] = ()

    def __init__(self, source: Source) -> None:
        self._source = source
        self.name = source.name
        self.budget = source.budget
        self.size = source.size
        self.warnings = file_size_warnings(source)

    @property
    def identifiers(self) -> dict[str, str]:
        """A raw file has none."""
        return {}

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return self._source.read_at(offset, length)

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many."""
        return self._source.read_many(ranges)

    def allocated_ranges(self) -> Iterator[Range]:
        """The whole file."""
        yield 0, self.size

    def close(self) -> None:
        """Do nothing: no parents were opened."""


def open_disk(source: Source, parents: Sequence[str | Path] = ()) -> Disk:
    """Open the virtual disk in `source`.

    Parents of a differencing disk are searched in its own directory and in the directories
    `parents`, by file name; the directories that the child records are ignored.

    Raises Unsupported for a file of another kind, which it names, NotRecognised if `source` is no
    disk, Corrupt if the disk is damaged.
    """
    head = source.read_at(0, 80)
    if head.startswith(SIGNATURE):
        return Vhdx(source, lambda locator: _find_vhdx_parent(source, parents, locator))
    from imagetool.disk.file_kinds import recognise_file

    suffix = PurePath(source.name).suffix.lower()
    if suffix != ".vhdx" or head.startswith(b"conectix"):
        disk = _open_vhd(source, parents)
        if disk is not None:
            return disk
    kind = recognise_file(source)
    if kind is not None and not kind.is_image:
        raise Unsupported(
            f"{source.name}: this is {kind.name}, and no VHDX, VHD or raw disk",
            hint=kind.as_image,
        )
    if suffix in (".vhdx", ".avhdx", ".vhd", ".avhd", ".vhds"):
        raise NotRecognised(
            f"{source.name}: this is no {suffix[1:].upper()} file: the signature is missing",
            hint="The file is damaged, or its name is wrong.",
        )
    if source.size < 512:
        raise NotRecognised(
            f"{source.name}: {source.size} bytes are no disk image", hint="Name a VHDX or raw disk."
        )
    return RawDisk(source)


# Modules that a dynamic VHDX does not need are imported in the functions that use them.


def _find_vhdx_parent(
    source: Source, parents: Sequence[str | Path], locator: ParentLocator
) -> Vhdx:
    from imagetool.disk.parents import ParentFinder

    def is_vhdx(parent: Source) -> bool:
        return parent.read_at(0, 8) == SIGNATURE

    return ParentFinder(source, parents, Vhdx, is_vhdx)(locator)


def _open_vhd(source: Source, parents: Sequence[str | Path]) -> Vhd | None:
    """Open a VHD; None if the source has no VHD footer."""
    from imagetool.disk.parents import ParentFinder
    from imagetool.disk.vhd import Vhd, find_footer

    def is_vhd(parent: Source) -> bool:
        return bool(find_footer(parent))

    if not find_footer(source):
        return None
    return Vhd(source, ParentFinder(source, parents, Vhd, is_vhd))
