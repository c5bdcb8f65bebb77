"""Export of a virtual disk to a sparse raw file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from imagetool.disk.container import Disk
from imagetool.disk.new_file import new_file

_CHUNK = 1 << 20


def export(disk: Disk, target: Path, progress: Callable[[int, int], None] | None = None) -> int:
    """Write the disk to `target`, a new sparse file; return the number of bytes written.

    `progress` is called with the bytes done and the total. Raises CannotWrite if the target exists
    or cannot be written; an incomplete file is removed.
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
