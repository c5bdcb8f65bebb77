"""Parents of differencing disks: the locator in the child, and the search for the file.

The paths that a child records are untrusted, so only their file names are used. The caller names
the directories to search; the child's own directory is the first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from imagetool.contracts import Files, OpenFile, Source
from imagetool.disk.file_kinds import recognise_file
from imagetool.disk.files import PARENTS_OPTION, expected_ranges
from imagetool.disk.local_files import LOCAL_FILES
from imagetool.errors import CannotOpen, Corrupt, NoFile, NotRecognised

_MAX_CHAIN_LENGTH = 64

D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class ParentLocator:
    """The names and identifiers that a child records of its parent."""

    names: tuple[str, ...]
    """File names that the parent may have, without any directory."""
    paths: tuple[str, ...]
    """The recorded paths, for messages."""
    linkages: tuple[bytes, ...]
    """The valid identifiers of the parent, as stored."""

    @classmethod
    def from_paths(
        cls, child: str, paths: Sequence[str], linkages: Sequence[bytes]
    ) -> ParentLocator:
        """Make a locator from recorded paths. Raises Corrupt, naming `child`, if none is usable."""
        usable = [path for path in paths if path and "\0" not in path]
        names = dict.fromkeys(path.replace("/", "\\").rpartition("\\")[2] for path in usable)
        # A colon would lead to another drive, or to an alternate stream.
        safe = tuple(name for name in names if name not in ("", ".", "..") and ":" not in name)
        if not linkages or not safe:
            raise Corrupt(
                f"{child}: the disk names no parent, or not which one",
                hint="The image is damaged: compare it with its origin.",
            )
        return cls(safe, tuple(usable), tuple(linkages))


class ParentFinder(Generic[D]):
    """Opens the parent of a differencing disk from a list of directories.

    The directories are on the machine of the child. `open_parent` opens a disk of the child's
    format, given a finder for the next parent; `is_same_format` tells if a file has that format.
    `ancestors` are the canonical paths of the disks opened so far, to detect cycles.
    """

    def __init__(
        self,
        source: Source,
        folders: Sequence[str | Path],
        open_parent: Callable[[Source, ParentFinder[D]], D],
        is_same_format: Callable[[Source], bool],
        ancestors: tuple[str, ...] = (),
    ) -> None:
        self._source = source
        self._folders = folders
        self._open = open_parent
        self._is_same_format = is_same_format
        self._ancestors = ancestors

    def __call__(self, locator: ParentLocator) -> D:
        """Open the parent. Raises CannotOpen if none is found, Corrupt for a cycle of parents."""
        child = self._source
        files: Files = child.files if isinstance(child, OpenFile) else LOCAL_FILES
        folders = [str(folder) for folder in self._folders]
        chain = self._ancestors
        if isinstance(child, OpenFile):
            folders.insert(0, files.folder(child.path))
            chain += (files.canonical(child.path),)
        folders = list(dict.fromkeys(folders))
        file = self._open_first(files, folders, locator)
        try:
            if files.canonical(file.path) in chain or len(chain) >= _MAX_CHAIN_LENGTH:
                raise Corrupt(
                    f"{child.name}: its chain of parents leads back to {file.name}, or is longer "
                    f"than {_MAX_CHAIN_LENGTH}",
                    hint="The images are damaged, or were renamed: compare them with their origin.",
                )
            if not self._is_same_format(file):
                kind = recognise_file(file)
                raise NotRecognised(
                    f"{file.name}: this parent is {kind.name if kind else 'a file of another kind'}"
                    f", not a disk of its child's format",
                    hint=f"Put the right parent beside it; {PARENTS_OPTION}.",
                )
            finder = ParentFinder(file, self._folders, self._open, self._is_same_format, chain)
            return self._open(file, finder)
        except BaseException:  # an interruption, too
            file.close()
            raise

    def _open_first(self, files: Files, folders: Sequence[str], locator: ParentLocator) -> OpenFile:
        """Open the first file that exists; a separate test would cost a second round trip."""
        for folder in folders:
            for name in locator.names:
                with suppress(NoFile):
                    return files.open(files.join(folder, name), expected_ranges(name))
        looked = ", ".join(folder or "its own directory" for folder in folders) or "nowhere"
        raise CannotOpen(
            f"{self._source.name}: its parent {locator.paths[0]} is missing (looked for "
            f"{' or '.join(locator.names)} in {looked})",
            hint=f"Put the parent beside it; {PARENTS_OPTION}.",
        )
