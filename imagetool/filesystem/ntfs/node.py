"""A file or directory of an NTFS volume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from imagetool.contracts import Source
from imagetool.disk.source import MemorySource
from imagetool.errors import Corrupt, NotFound, Unsupported
from imagetool.filesystem.ntfs import index
from imagetool.filesystem.ntfs import structs as s
from imagetool.filesystem.ntfs.data import NonResidentData, open_data
from imagetool.filesystem.ntfs.record import Attribute, FileRecord

if TYPE_CHECKING:
    from imagetool.filesystem.ntfs.volume import Ntfs


_REPARSE_POINT_SIZE = 24  # all of one of the overlay filter; no more of any other is read


class NtfsNode:
    """A file or directory."""

    __slots__ = ("_record", "_volume", "path")

    def __init__(self, volume: Ntfs, record: FileRecord, path: str) -> None:
        self._volume = volume
        self._record = record
        self.path = path

    def __repr__(self) -> str:
        return f"NtfsNode({self.path!r})"

    @property
    def volume(self) -> Ntfs:
        """The volume that it belongs to."""
        return self._volume

    @property
    def is_directory(self) -> bool:
        """True for a directory."""
        return self._record.is_directory

    @property
    def size(self) -> int:
        """The size of the data in bytes; 0 for a directory."""
        extents = self._volume.attribute_extents(self._record, s.DATA, "")
        return extents[0].size if extents else 0

    def open(self, stream: str = "") -> Source:
        """The data as a source, or that of an alternate stream.

        Raises NotFound where there is none, Unsupported for a link and for a file whose data a
        filter keeps elsewhere, Encrypted for one that EFS encrypted.
        """
        path = self.path or "the root"
        name = f"{self._volume.name}: {path}" + (f":{stream}" if stream else "")
        extents = self._volume.attribute_extents(self._record, s.DATA, stream)
        if not extents:
            what = "is a directory" if self.is_directory and not stream else "has no such data"
            raise NotFound(f"{name} {what}", hint="`imagetool file list` shows what is there.")
        point = b"" if stream else self._reparse_point()
        if point[:4] == s.WOF_REPARSE_TAG.to_bytes(4, "little"):
            return self._open_wof(point, extents[0].size, name)
        data = self._open_extents(extents, name)
        if point:
            self._check_data_is_here(int.from_bytes(point[:4], "little"), data)
        return data

    @staticmethod
    def _check_data_is_here(tag: int, data: Source) -> None:
        """Raise Unsupported for a reparse point whose data lies elsewhere."""
        meaning = s.REPARSE_TAGS.get(tag & ~s.REPARSE_TAG_VARIANTS, s.REPARSE_TAGS.get(tag, ""))
        hole = isinstance(data, NonResidentData) and data.is_hole and data.size > 0
        if meaning or hole:
            raise Unsupported(
                f"{data.name}: {meaning or 'a reparse point of a filter that is not known'} "
                f"(reparse tag 0x{tag:08X}): its data does not lie in the file",
                hint="Start the guest and copy it there, or read the file that it leads to.",
            )

    def _open_extents(self, extents: list[Attribute], name: str) -> Source:
        if extents[0].resident:
            return MemorySource(extents[0].value, name)
        return open_data(self._volume.source, self._volume.cluster_size, extents, name)

    def _reparse_point(self) -> bytes:
        """The beginning of its reparse point; empty for none."""
        extents = self._volume.attribute_extents(self._record, s.REPARSE_POINT, "")
        if not extents:
            return b""
        name = f"{self._volume.name}: {self.path}: its reparse point"
        return self._open_extents(extents, name).read_at(0, _REPARSE_POINT_SIZE)

    def _open_wof(self, point: bytes, size: int, name: str) -> Source:
        # Such files are rare: their decompressors are imported only when one is opened.
        from imagetool.filesystem.ntfs import wof

        algorithm = wof.read_algorithm(point, name)
        extents = self._volume.attribute_extents(self._record, s.DATA, wof.STREAM_NAME)
        if not size:
            return MemorySource(b"", name)
        if not extents:
            raise Corrupt(
                f"{name}: the file is compressed by the Windows overlay filter and has no stream "
                f"{wof.STREAM_NAME}",
                hint="The volume is damaged: let the guest check it, or restore the image.",
            )
        stream = self._open_extents(extents, f"{name}:{wof.STREAM_NAME}")
        return wof.WofData(stream, size, algorithm, name)

    def entries(self, prefix: str = "") -> Iterator[index.IndexEntry]:
        """The entries of a directory, in the order of its index. Raises NotFound for a file.

        With a prefix only the names that begin with it, in any case.
        """
        if not self.is_directory:
            raise NotFound(
                f"{self._volume.name}: {self.path} is no directory", hint="`file read` reads it."
            )
        return self._volume.list_directory(self._record, prefix)
