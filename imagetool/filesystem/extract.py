"""Files and trees of a volume into new files here.

Nothing is written over, outside of the target, or through a link; links of the volume itself are
left out, and so are names that are not safe on every system: both are said.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from imagetool.disk.names import safe_name
from imagetool.disk.target import new_file
from imagetool.errors import CannotWrite, Encrypted, NotFound
from imagetool.filesystem.volume import FILE_ATTRIBUTE_REPARSE_POINT, Node, Volume

_CHUNK = 1 << 20
_DEEPEST = 128

Progress = Callable[[int, int], None]


class Extraction:
    """What may be written, and what was: in bytes, and what was left out, with the reason."""

    def __init__(self, max_size: int, progress: Progress) -> None:
        self.left_out: list[str] = []
        self.files = 0
        self._max_size = max_size
        self._written = 0
        self._progress = progress

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
        for entry in node.entries():
            path = f"{node.path}\\{entry.name}" if node.path else entry.name
            linked = entry.attributes & FILE_ATTRIBUTE_REPARSE_POINT
            # A file of NTFS with such a point may be a compressed one; a directory leads elsewhere.
            if linked and (entry.is_directory or volume.kind != "NTFS"):
                self.left_out.append(f"{path}: a link")
                continue
            try:
                place = target / safe_name(entry.name)
            except CannotWrite as error:
                self.left_out.append(error.message)
                continue
            below = volume.lookup(path)
            if below.is_directory:
                self.tree(volume, below, place, depth + 1)
                continue
            try:
                self.file(below, place)
            except (Encrypted, NotFound) as error:  # EFS; a device, a pipe, a socket
                self.left_out.append(error.message)
