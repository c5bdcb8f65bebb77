"""A file or directory of an NTFS volume."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from imagetool.disk.filetime import from_filetime
from imagetool.disk.source import Memory, Source
from imagetool.errors import NotFound
from imagetool.filesystem.ntfs import index
from imagetool.filesystem.ntfs import structs as s
from imagetool.filesystem.ntfs.data import open_data
from imagetool.filesystem.ntfs.record import Record

if TYPE_CHECKING:
    from imagetool.filesystem.ntfs.volume import Ntfs


class NtfsNode:
    """A file or directory."""

    __slots__ = ("_record", "_volume", "path")

    def __init__(self, volume: Ntfs, record: Record, path: str) -> None:
        self._volume = volume
        self._record = record
        self.path = path

    def __repr__(self) -> str:
        return f"NtfsNode({self.path!r})"

    @property
    def record_number(self) -> int:
        """The number of its record in the master file table."""
        return self._record.number

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self._record.is_directory

    @property
    def size(self) -> int:
        """The size of the data in bytes; 0 for a directory."""
        extents = self._volume.extents(self._record, s.DATA, "")
        return extents[0].size if extents else 0

    def _information(self) -> bytes:
        found = [i.value for i in self._record.attributes() if i.type == s.STANDARD_INFORMATION]
        return found[0] if found else bytes(48)

    @property
    def modified(self) -> datetime:
        """When the content changed, in UTC."""
        return from_filetime(int.from_bytes(self._information()[8:16], "little"))

    @property
    def attributes(self) -> int:
        """FILE_ATTRIBUTE_…, [MS-FSCC] 2.6."""
        return int.from_bytes(self._information()[32:36], "little")

    def streams(self) -> tuple[str, ...]:
        """The names of the alternate streams."""
        attributes = self._volume.all_attributes(self._record)
        return tuple(dict.fromkeys(i.name for i in attributes if i.type == s.DATA and i.name))

    def open(self, stream: str = "") -> Source:
        """The data, or that of an alternate stream.

        Raises NotFound where there is none, Encrypted for a file that EFS encrypted, Unsupported
        for one whose data the overlay filter keeps in a WIM.
        """
        volume = self._volume
        name = f"{volume.name}: {self.path}" + (f":{stream}" if stream else "")
        extents = volume.extents(self._record, s.DATA, stream)
        if not extents:
            what = "is a directory" if self.is_directory and not stream else "has no such data"
            raise NotFound(f"{name} {what}", hint="`imagetool file list` shows what is there.")
        if not stream and self._is_overlay():
            from imagetool.filesystem.ntfs.overlay import STREAM, open_overlay

            if volume.extents(self._record, s.DATA, STREAM):
                packed = self.open(STREAM)
                return open_overlay(self._reparse_point(), packed, extents[0].size, name)
        if extents[0].resident:
            return Memory(extents[0].value, name)
        return open_data(volume.source, volume.cluster_size, extents, name)

    def _is_overlay(self) -> bool:
        return self._reparse_point()[:4] == s.WOF_REPARSE_TAG.to_bytes(4, "little")

    def _reparse_point(self) -> bytes:
        points = [i for i in self._record.attributes() if i.type == s.REPARSE_POINT and i.resident]
        return points[0].value if points else b""

    def entries(self, prefix: str = "") -> Iterator[index.IndexEntry]:
        """What a directory holds, in the order of its index. Raises NotFound for a file.

        With a prefix only the names that begin with it, in any case.
        """
        if not self.is_directory:
            raise NotFound(
                f"{self._volume.name}: {self.path} is no directory", hint="`file read` reads it."
            )
        return self._volume.list_directory(self._record, prefix)
