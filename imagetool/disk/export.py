"""The whole virtual disk as a raw file whose zeros take no room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from imagetool.disk.container import Disk
from imagetool.disk.new_file import new_file

_CHUNK = 1 << 20


def export(disk: Disk, target: Path, progress: Callable[[int, int], None] | None = None) -> int:
    """Write the disk to `target`, a new file; returns how many bytes of it are not zero's.

    `progress` is told how many bytes are done, of how many. Raises CannotWrite where the target
    exists or cannot be written; a file that was begun is removed.
    """
    written = 0
    with new_file(target) as file:
        file.truncate(disk.size)
        for start, length in disk.allocated_ranges():
            for offset in range(start, start + length, _CHUNK):
                data = disk.read_at(offset, min(_CHUNK, start + length - offset))
                if data.count(0) != len(data):
                    file.seek(offset)
                    file.write(data)
                    written += len(data)
                if progress is not None:
                    progress(offset + len(data), disk.size)
    return written
