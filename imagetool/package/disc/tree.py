"""The walk through the directories of a side, whatever its standard."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from imagetool.contracts import Source
from imagetool.package.disc.side import DiscFile, damaged


class Directory(Protocol):
    """A directory, identified by where it lies."""

    @property
    def offset(self) -> int:
        """The offset on the disc, in bytes."""


DirectoryT = TypeVar("DirectoryT", bound=Directory)


def walk(
    source: Source,
    root: DirectoryT,
    read: Callable[[DirectoryT, str], Iterator[DiscFile | tuple[str, DirectoryT]]],
) -> Iterator[DiscFile]:
    """Go through all files below `root`, directory by directory.

    `read` gives the files of a directory whose path is the second argument, and the directories in
    it with their paths. Raises Corrupt for a directory in itself, BudgetSpent.
    """
    waiting: deque[tuple[DirectoryT, str, tuple[int, ...]]] = deque([(root, "", ())])
    while waiting:
        directory, folder, above = waiting.popleft()
        source.budget.check_depth(source.name, len(above))
        if directory.offset in above:
            raise damaged(source.name, f"the directory {folder} lies in itself")
        above = (*above, directory.offset)
        for item in read(directory, folder):
            if isinstance(item, DiscFile):
                yield item
            else:
                path, below = item
                waiting.append((below, f"{path}/", above))
