"""The state of an image file, recorded while it is read, and compared with what is there later.

A write leaves the identifiers of a VHD as they are, and a time can be set. So the state has a
digest as well, over the ranges of the file that the readers asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, TypeVar

from imagetool.budget import Budget
from imagetool.contracts import Files, FileState, FolderEntry, OpenFile, Range, Task
from imagetool.errors import ImagetoolError
from imagetool.guest.image import ImageIdentity, open_image

T = TypeVar("T")

_BATCH_BYTES = 2 << 20


class ReadRanges(NamedTuple):
    """The ranges of a file that were read, ascending and merged, and the SHA-256 of their bytes."""

    ranges: tuple[Range, ...]
    sha256: str


class ImageState(NamedTuple):
    """Identity, last write time, and a digest over what was read."""

    identity: ImageIdentity
    last_written: datetime | None
    read: ReadRanges


class RecordingFiles:
    """The files of a machine, of which the ranges that are read of one are recorded."""

    def __init__(self, files: Files, path: str) -> None:
        self._files = files
        self._path = path
        self.ranges: set[Range] = set()
        self._opened: OpenFile | None = None

    @property
    def on_windows(self) -> bool:
        """As Files.on_windows."""
        return self._files.on_windows

    def open(self, path: str, prefetch: Sequence[Range] = ()) -> OpenFile:
        """As Files.open."""
        file = self._files.open(path, prefetch)
        if path != self._path:
            return file
        self._opened = file
        return RecordedFile(file, self)

    def record(self, identity: ImageIdentity) -> ImageState:
        """Return the state of the file, which is still open. Raises CannotOpen, HostFailed."""
        assert self._opened is not None
        ranges = merge(self.ranges, identity.size)
        digest = digest_ranges(self._opened, ranges)
        return ImageState(identity, self.stat(self._path).last_written, ReadRanges(ranges, digest))

    def list_folders(self, paths: Sequence[str]) -> list[tuple[FolderEntry, ...] | ImagetoolError]:
        """As Files.list_folders."""
        return self._files.list_folders(paths)

    def stat(self, path: str) -> FileState:
        """As Files.stat."""
        return self._files.stat(path)

    def display_name(self, path: str) -> str:
        """As Files.display_name."""
        return self._files.display_name(path)

    def folder(self, path: str) -> str:
        """As Files.folder."""
        return self._files.folder(path)

    def join(self, folder: str, name: str) -> str:
        """As Files.join."""
        return self._files.join(folder, name)

    def canonical(self, path: str) -> str:
        """As Files.canonical."""
        return self._files.canonical(path)


class RecordedFile:
    """An open file whose reads are recorded."""

    def __init__(self, file: OpenFile, files: RecordingFiles) -> None:
        self._file = file
        self.files = files
        self.name = file.name
        self.size = file.size
        self.budget: Budget = file.budget
        self._ranges = files.ranges

    @property
    def path(self) -> str:
        """As OpenFile.path."""
        return self._file.path

    @property
    def warnings(self) -> tuple[str, ...]:
        """As OpenFile.warnings."""
        return self._file.warnings

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        self._ranges.add((offset, length))
        return self._file.read_at(offset, length)

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many."""
        self._ranges.update((offset, length) for offset, length in ranges)
        return self._file.read_many(ranges)

    def gather(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """As OpenFile.gather."""
        return self._file.gather(tasks)

    def prefetch(self, tasks: Iterable[Task]) -> None:
        """As OpenFile.prefetch."""
        self._file.prefetch(tasks)

    def close(self) -> None:
        """As OpenFile.close."""
        self._file.close()


def merge(ranges: Iterable[Range], size: int) -> tuple[Range, ...]:
    """Return ranges ascending and merged, as far as they lie in `size` bytes."""
    merged: list[Range] = []
    for offset, length in sorted(ranges):
        end = min(offset + length, size)
        if offset < 0 or end <= offset:
            continue
        if merged and offset <= sum(merged[-1]):
            start = merged[-1][0]
            merged[-1] = (start, max(end, sum(merged[-1])) - start)
        else:
            merged.append((offset, end - offset))
    return tuple(merged)


def digest_ranges(file: OpenFile, ranges: Sequence[Range]) -> str:
    """Return the SHA-256 of the bytes of ranges, one behind the other, in hexadecimal."""
    digest = hashlib.sha256()
    for batch in _batches(ranges):
        for data in file.read_many(batch):
            digest.update(data)
    return digest.hexdigest()


def _batches(ranges: Sequence[Range]) -> Iterator[list[Range]]:
    batch: list[Range] = []
    room = _BATCH_BYTES
    for start, length in ranges:
        for offset in range(start, start + length, _BATCH_BYTES):
            part = min(_BATCH_BYTES, start + length - offset)
            if part > room and batch:
                yield batch
                batch, room = [], _BATCH_BYTES
            batch.append((offset, part))
            room -= part
    if batch:
        yield batch


def difference(files: Files, path: str, state: ImageState) -> str:
    """Return the first difference of the file at `path` from `state`, in words; empty: none.

    The time of the last write is not compared. Raises Unreadable, HostFailed.
    """
    with open_image(path, files=files) as image:
        found = image.identity
        if found != state.identity:
            return _identity_difference(state.identity, found)
    file = files.open(path)
    try:
        if digest_ranges(file, state.read.ranges) != state.read.sha256:
            count = sum(length for _, length in state.read.ranges)
            return f"of the {count:,} bytes that were read of it some are others"
    finally:
        file.close()
    return ""


def _identity_difference(own: ImageIdentity, other: ImageIdentity) -> str:
    pairs = [("size", str(own.size), str(other.size)), ("format", own.format, other.format)]
    names = dict.fromkeys(name for name, _ in own.identifiers + other.identifiers)
    ours, theirs = dict(own.identifiers), dict(other.identifiers)
    pairs += [(name, ours.get(name, "none"), theirs.get(name, "none")) for name in names]
    return next((f"its {name} is {b}, not {a}" for name, a, b in pairs if a != b), "")
