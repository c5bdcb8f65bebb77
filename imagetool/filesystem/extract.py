"""Extraction of files and directory trees into new files on this machine.

Nothing is overwritten, and nothing is written outside of the target or through a link. Links in the
volume are skipped, and so are names that are not safe on every system; `skipped` lists both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from imagetool.contracts import Task
from imagetool.disk.new_file import new_file
from imagetool.disk.safe_names import safe_name
from imagetool.errors import CannotWrite, NotFound, Unsupported
from imagetool.filesystem.volume import FILE_ATTRIBUTE_REPARSE_POINT, Entry, Node, Volume

_COPY_BYTES = 1 << 20
_MAX_DEPTH = 128

_PREFETCH_FILES = 64  # files that are prefetched together where a read is a round trip
_PREFETCH_BYTES = 65536

Progress = Callable[[int, int], None]


class Prefetch(Protocol):
    """Image.prefetch of the image that holds the volume."""

    def __call__(self, *tasks: Task) -> None:
        """Run the tasks for the sake of what they read."""


def _no_prefetch(*tasks: Task) -> None:
    """Do nothing: a read that is no round trip gains nothing by it."""


class Extraction:
    """One extraction: its limit in bytes, its count of files, and what it skipped.

    `skipped` has a sentence for each path that was left out. `progress` is called with the bytes
    done and the bytes in all of the file at hand.
    """

    def __init__(
        self, max_size: int, progress: Progress, prefetch: Prefetch = _no_prefetch
    ) -> None:
        self.skipped: list[str] = []
        self.file_count = 0
        self._max_size = max_size
        self._written = 0
        self._progress = progress
        self._prefetch = prefetch

    def extract_file(self, node: Node, target: Path) -> None:
        """Extract one file. Raises CannotWrite where it is too large, or the target exists."""
        source = node.open()
        if self._written + source.size > self._max_size:
            raise CannotWrite(
                f"{node.path}: {self._written + source.size} bytes are more than --max-size "
                f"{self._max_size} allows",
                hint="Raise --max-size if you trust the image.",
            )
        with new_file(target) as file:
            for offset in range(0, source.size, _COPY_BYTES):
                self._progress(offset, source.size)
                file.write(source.read_at(offset, _COPY_BYTES))
        self._written += source.size
        self.file_count += 1

    def extract_tree(self, volume: Volume, node: Node, target: Path, depth: int = 0) -> None:
        """Extract a directory and all below it into a directory that does not exist yet."""
        if depth > _MAX_DEPTH:
            self.skipped.append(f"{node.path}: nested too deeply")
            return
        try:
            target.mkdir()
        except FileExistsError:
            raise CannotWrite(
                f"{target}: there is something of that name already",
                hint="Name another directory, or remove it.",
            ) from None
        except OSError as error:
            raise CannotWrite(f"{target}: cannot be made: {error.strerror}") from None
        entries = list(node.entries())
        for start in range(0, len(entries), _PREFETCH_FILES):
            batch = [
                (_child_path(node, entry), entry)
                for entry in entries[start : start + _PREFETCH_FILES]
            ]
            self._prefetch(*(partial(_prefetch_start, volume, path) for path, _ in batch))
            for path, entry in batch:
                self._extract_entry(volume, path, entry, target, depth)

    def _extract_entry(
        self, volume: Volume, path: str, entry: Entry, target: Path, depth: int
    ) -> None:
        linked = entry.attributes & FILE_ATTRIBUTE_REPARSE_POINT
        # An NTFS file with a reparse point may be a compressed one; a directory with one is a link.
        if linked and (entry.is_directory or volume.file_system != "NTFS"):
            self.skipped.append(f"{path}: a link")
            return
        try:
            destination = target / safe_name(entry.name)
        except CannotWrite as error:
            self.skipped.append(error.message)
            return
        child = volume.lookup(path)
        if child.is_directory:
            self.extract_tree(volume, child, destination, depth + 1)
            return
        try:
            self.extract_file(child, destination)
        except (Unsupported, NotFound) as error:  # data that lies elsewhere, EFS; a device, a pipe
            self.skipped.append(error.message)


def _child_path(node: Node, entry: Entry) -> str:
    return f"{node.path}{node.volume.separators[0]}{entry.name}" if node.path else entry.name


def _prefetch_start(volume: Volume, path: str) -> None:
    """Read the first bytes of a file: for most files all of them."""
    node = volume.find(path)
    if node is not None and not node.is_directory:
        node.open().read_at(0, _PREFETCH_BYTES)
