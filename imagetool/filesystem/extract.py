"""Files and trees of a volume into new files here.

Nothing is written over, outside of the target, or through a link; links of the volume itself are
left out, and so are names that are not safe on every system: both are said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from imagetool.disk.files import Question
from imagetool.disk.new_file import new_file
from imagetool.disk.safe_names import safe_name
from imagetool.errors import CannotWrite, Encrypted, NotFound
from imagetool.filesystem.volume import FILE_ATTRIBUTE_REPARSE_POINT, Entry, Node, Volume

_CHUNK = 1 << 20
_DEEPEST = 128

_BATCH = 64  # files whose beginnings are read together where a read is a round trip
_BEGINNING = 65536

Progress = Callable[[int, int], None]
Ahead = Callable[[Iterable[Question]], None]
"""Asks what will be asked later (OpenFile.ahead)."""


class Extraction:
    """What may be written, and what was: in bytes, and what was left out, with the reason."""

    def __init__(self, max_size: int, progress: Progress, ahead: Ahead = lambda _: None) -> None:
        self.left_out: list[str] = []
        self.files = 0
        self._max_size = max_size
        self._written = 0
        self._progress = progress
        self._ahead = ahead

    def file(self, node: Node, target: Path) -> None:
        """One file. Raises CannotWrite where it is too large, or the target exists."""
        source = node.open()
        if self._written + source.size > self._max_size:
            raise CannotWrite(
                f"{node.path}: {self._written + source.size} bytes are more than --max-size "
                f"{self._max_size} allows",
                hint="Raise --max-size if you trust the image.",
            )
        with new_file(target) as file:
            for offset in range(0, source.size, _CHUNK):
                self._progress(offset, source.size)
                file.write(source.read_at(offset, _CHUNK))
        self._written += source.size
        self.files += 1

    def tree(self, volume: Volume, node: Node, target: Path, depth: int = 0) -> None:
        """A directory and all below it, into a directory that does not exist yet."""
        if depth > _DEEPEST:
            self.left_out.append(f"{node.path}: nested too deeply")
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
        for start in range(0, len(entries), _BATCH):
            batch = [(_below(node, entry), entry) for entry in entries[start : start + _BATCH]]
            self._ahead(partial(_begin, volume, path) for path, _ in batch)
            for path, entry in batch:
                self._entry(volume, path, entry, target, depth)

    def _entry(self, volume: Volume, path: str, entry: Entry, target: Path, depth: int) -> None:
        linked = entry.attributes & FILE_ATTRIBUTE_REPARSE_POINT
        # A file of NTFS with such a point may be a compressed one; a directory leads elsewhere.
        if linked and (entry.is_directory or volume.kind != "NTFS"):
            self.left_out.append(f"{path}: a link")
            return
        try:
            place = target / safe_name(entry.name)
        except CannotWrite as error:
            self.left_out.append(error.message)
            return
        below = volume.lookup(path)
        if below.is_directory:
            self.tree(volume, below, place, depth + 1)
            return
        try:
            self.file(below, place)
        except (Encrypted, NotFound) as error:  # EFS; a device, a pipe, a socket
            self.left_out.append(error.message)


def _below(node: Node, entry: Entry) -> str:
    return f"{node.path}\\{entry.name}" if node.path else entry.name


def _begin(volume: Volume, path: str) -> None:
    """Read the beginning of a file, which is all of most."""
    node = volume.find(path)
    if node is not None and not node.is_directory:
        node.open().read_at(0, _BEGINNING)
