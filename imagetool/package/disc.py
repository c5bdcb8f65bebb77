"""Disc images: ISO 9660 with or without Joliet, listed by pycdlib.

pycdlib provides only the offsets of the files; their bytes are read from the source, so nothing is
extracted. Any exception of pycdlib becomes Corrupt. Not supported: discs with UDF alone.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from imagetool.contracts import Source
from imagetool.disk.source import SourceSlice
from imagetool.errors import Corrupt, ImagetoolError, Unsupported

_SECTOR = 2048
_DESCRIPTORS_OFFSET = 16 * _SECTOR  # the volume descriptors (ECMA-119, 6.3)
_MAX_DESCRIPTORS = 256
_MAX_DEPTH = 16
_MAX_FILES = 100_000
_MAX_READ_SIZE = 64 << 20


@dataclass(frozen=True, slots=True)
class DiscFile:
    """A file on a disc: path with /, offset and size in bytes."""

    path: str
    offset: int
    size: int


def is_disc(source: Source) -> bool:
    """True if the source has volume descriptors of ISO 9660 or UDF (ECMA-119, ECMA-167)."""
    return source.read_at(_DESCRIPTORS_OFFSET + 1, 5) in (b"CD001", b"BEA01", b"NSR02", b"NSR03")


def _has_udf(source: Source) -> bool:
    """True if one of the volume descriptors is UDF's (ECMA-167, 2/9)."""
    for sector in range(16, 16 + _MAX_DESCRIPTORS):
        kind = source.read_at(
            sector * _SECTOR + 1, min(5, max(0, source.size - sector * _SECTOR - 1))
        )
        if kind in (b"NSR02", b"NSR03"):
            return True
        if kind not in (b"CD001", b"BEA01", b"BOOT2", b"TEA01"):
            return False
    return True


class _SeekableSource(io.RawIOBase):
    """A source as a seekable binary file, for pycdlib."""

    mode = "rb"

    def __init__(self, source: Source) -> None:
        self._source = source
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._source.size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        size = self._source.size - self._position if size is None or size < 0 else size
        if size > _MAX_READ_SIZE:
            raise ValueError(f"a structure of {size} bytes")
        data = self._source.read_at(self._position, max(0, size))
        self._position += len(data)
        return data


class Disc:
    """The files of a disc. Raises Unsupported for UDF without ISO 9660, Corrupt for damage."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._source = source
        if source.read_at(_DESCRIPTORS_OFFSET + 1, 5) != b"CD001":
            raise Unsupported(
                f"{source.name}: this disc is UDF alone, which is not read",
                hint="Copy its files into a folder and name the CAB, or make an ISO 9660 disc.",
            )
        self.has_udf = _has_udf(source)
        """True if the disc also has a UDF tree, which is not read."""
        self.other_files: tuple[DiscFile, ...] = ()
        """Beside Joliet: the files by the names of ISO 9660 and of Rock Ridge."""
        self.files = self._list()

    def shown_otherwise(self) -> tuple[str, ...]:
        """Paths by which a system reads bytes that the listed files do not have there."""
        listed: dict[str, tuple[int, int]] = {}
        found = []
        for file in self.files:
            extent = (file.offset, file.size)
            if listed.setdefault(file.path.lower(), extent) != extent:
                found.append(file.path)
        extents = set(listed.values())
        for file in self.other_files:
            extent = (file.offset, file.size)
            same = listed.get(file.path.lower(), extent) == extent
            if file.size and not (same and extent in extents):
                found.append(file.path)
        return tuple(dict.fromkeys(found))

    def _list(self) -> tuple[DiscFile, ...]:
        from pycdlib import PyCdlib

        disc = PyCdlib()
        try:
            disc.open_fp(cast("BinaryIO", _SeekableSource(self._source)))
            try:
                joliet = disc.has_joliet()
                if joliet:
                    self.other_files = tuple(self._walk(disc, joliet=False))
                if disc.has_rock_ridge():
                    self.other_files += tuple(self._walk(disc, joliet=False, rock_ridge=True))
                return tuple(self._walk(disc, joliet))
            finally:
                disc.close()
        except ImagetoolError:
            raise
        except RecursionError:
            raise self._damaged("directories within each other without an end") from None
        except Exception as error:
            # pycdlib raises its own exceptions, but also struct.error, IndexError and others.
            raise self._damaged(str(error) or type(error).__name__) from None

    def _damaged(self, reason: str) -> Corrupt:
        return Corrupt(
            f"{self.name}: the disc cannot be read: {reason}",
            hint="The disc is truncated or damaged: compare it with its origin.",
        )

    def _walk(self, disc: object, joliet: bool, *, rock_ridge: bool = False) -> Iterator[DiscFile]:
        folders, seen, count = [("/", "/", 0)], set(), 0
        while folders:
            folder, shown_folder, depth = folders.pop()
            argument = {"joliet_path" if joliet else "iso_path": folder}
            for record in disc.list_children(**argument):  # type: ignore[attr-defined]  # untyped pycdlib
                if record is None or record.is_dot() or record.is_dotdot():
                    continue
                count += 1
                raw = record.file_identifier()
                name = raw.decode("utf-16-be" if joliet else "ascii", "replace")
                path, extent = f"{folder}{name}", record.extent_location()
                shown = shown_folder + name
                if rock_ridge and record.rock_ridge is not None:
                    shown = shown_folder + record.rock_ridge.name().decode("utf-8", "replace")
                if count > _MAX_FILES or depth > _MAX_DEPTH:
                    raise self._damaged(
                        "more files or deeper directories than any disc of this kind"
                    )
                if not record.is_dir():
                    listed_path = shown.lstrip("/").partition(";")[0].rstrip(".")
                    yield DiscFile(listed_path, extent * _SECTOR, record.get_data_length())
                elif extent not in seen:
                    seen.add(extent)
                    folders.append((f"{path}/", f"{shown}/", depth + 1))

    def open(self, file: DiscFile) -> Source:
        """Open a file as a source. Raises Corrupt if it extends beyond the disc."""
        return SourceSlice(self._source, file.offset, file.size, f"{self.name}: {file.path}")
