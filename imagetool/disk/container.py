"""Which container a file is: recognised by its bytes, never by its name alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Protocol, runtime_checkable

from imagetool.disk.file import FileSource
from imagetool.disk.source import Range, Source
from imagetool.disk.vhdx import SIGNATURE, Vhdx
from imagetool.disk.vhdx.parent import ParentLocator
from imagetool.errors import CannotOpen, Corrupt, NotRecognised, Unsupported

_LONGEST_CHAIN = 64


@runtime_checkable
class Disk(Source, Protocol):
    """A virtual disk: a source, and what its container says of itself."""

    @property
    def format(self) -> str:
        """VHDX or raw."""

    @property
    def kind(self) -> str:
        """dynamic, fixed, differencing or raw."""

    @property
    def sector_size(self) -> int:
        """The logical sector size in bytes; 512 where a raw file does not say."""

    @property
    def identifiers(self) -> dict[str, str]:
        """What the container calls itself, by the names of its specification."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader should know of the container."""

    @property
    def chain(self) -> tuple[str, ...]:
        """The names of a differencing disk's parents, the nearest first."""

    def allocated(self) -> Iterator[Range]:
        """The stretches of the disk that are stored, ascending and merged."""

    def close(self) -> None:
        """Close what opening the disk opened: the files of its parents."""


class ParentFinder:
    """Opens the parent of a differencing disk from the directories that are allowed."""

    def __init__(
        self, source: Source, parents: Sequence[Path], above: tuple[Path, ...] = ()
    ) -> None:
        self._source = source
        self._parents = parents
        own = (source.path.resolve(),) if isinstance(source, FileSource) else ()
        self._chain = above + own

    def __call__(self, locator: ParentLocator) -> Vhdx:
        """The parent. Raises CannotOpen where none is found, Corrupt for a chain without end."""
        folders = [self._chain[-1].parent] if self._chain else []
        folders += [folder for folder in self._parents if folder not in folders]
        tried = [folder / name for folder in folders for name in locator.names]
        path = next((item for item in tried if item.is_file()), None)
        if path is None:
            looked = ", ".join(str(folder) for folder in folders) or "nowhere"
            raise CannotOpen(
                f"{self._source.name}: its parent {locator.paths[0]} is missing (looked for "
                f"{' or '.join(locator.names)} in {looked})",
                hint="Put the parent beside it, or name its directory with --parents.",
            )
        if path.resolve() in self._chain or len(self._chain) >= _LONGEST_CHAIN:
            raise Corrupt(
                f"{self._source.name}: its chain of parents leads back to {path}, or is longer "
                f"than {_LONGEST_CHAIN}",
                hint="The images are damaged, or were renamed: compare them with their origin.",
            )
        file = FileSource(path)
        try:
            if file.read_at(0, 8) != SIGNATURE:
                raise NotRecognised(f"{path}: this parent is no VHDX file")
            return Vhdx(file, ParentFinder(file, self._parents, self._chain))
        except BaseException:
            file.close()
            raise


class RawDisk:
    """A file that is the disk itself."""

    format = "raw"
    kind = "raw"
    sector_size = 512
    warnings: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()

    def __init__(self, source: Source) -> None:
        self._source = source
        self.name = source.name
        self.size = source.size

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

    def allocated(self) -> Iterator[Range]:
        """The whole file."""
        yield 0, self.size

    def close(self) -> None:
        """Nothing was opened."""


_OTHERS = (
    (b"QFI\xfb", "a QCOW2 disk"),
    (b"KDMV", "a VMDK disk"),
    (b"# Disk DescriptorFile", "a VMDK descriptor"),
    (b"MSWIM\0\0\0", "a WIM archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"BZh", "a bzip2 archive"),
    (b"PK\x03\x04", "a zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"MSCF", "a cabinet"),
    (b"regf", "a registry hive"),
)


def open_disk(source: Source, parents: Sequence[Path] = ()) -> Disk:
    """The virtual disk in `source`.

    Parents of a differencing disk are looked for in its own directory and in `parents`, by their
    names alone, whatever the child records.

    Raises NotRecognised where the bytes are of no disk, Unsupported where they are of a kind that
    is not read, Corrupt where they contradict themselves.
    """
    head = source.read_at(0, 80)
    if head.startswith(SIGNATURE):
        return Vhdx(source, ParentFinder(source, parents))
    suffix = PurePath(source.name).suffix.lower()
    if head.startswith(b"conectix") or (
        suffix != ".vhdx" and _footer(source).startswith(b"conectix")
    ):
        raise Unsupported(
            f"{source.name}: this is a VHD of the first generation",
            hint="Convert it with Convert-VHD or `qemu-img convert -O vhdx`; reading VHD comes "
            "later.",
        )
    if head[64:68] == b"\x7f\x10\xda\xbe":
        raise Unsupported(f"{source.name}: this is a VDI disk, which is not read", hint=_CONVERT)
    for signature, name in _OTHERS:
        if head.startswith(signature):
            raise Unsupported(
                f"{source.name}: this is {name}, which is no disk image", hint=_CONVERT
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


_CONVERT = "Unpack or convert it first, for example with `qemu-img convert -O vhdx`."


def _footer(source: Source) -> bytes:
    """The last sector, from where a footer of 512 (or, on old disks, 511) bytes can begin."""
    tail = source.read_at(max(0, source.size - 512), 512)
    return tail[1:] if tail[1:9] == b"conectix" else tail
