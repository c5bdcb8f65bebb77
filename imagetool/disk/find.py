"""Images by patterns and directories, on this machine or on a host, by one set of rules.

`*`, `?` and `[…]` match within a name, `**` is any number of directories; a directory stands for
the images in it, and with `recursive` for those below it too, whether it is named or a pattern
fits it. Names that begin with a dot count like any other. The suffix of a pattern counts in any
case of letters, on Windows the whole name. A name that is the pattern's own text fits it as well:
a file named so hides no other. Links to directories are followed, and no directory is entered
twice.
"""

from __future__ import annotations

import ntpath
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import NamedTuple

from imagetool.contracts import Files, FolderEntry
from imagetool.disk.files import IMAGE_SUFFIXES, is_pattern, names_an_image
from imagetool.errors import CannotOpen, ImagetoolError, NoFile, WrongUsage

_MAX_ENTRIES = 1_000_000
_MAX_DEPTH = 128
_ANY_DEPTH = "**"

_NO_ERRORS: Mapping[str, ImagetoolError] = MappingProxyType({})


class Found(NamedTuple):
    """The images that were found, sorted, and the errors of directories that cannot be listed."""

    paths: tuple[str, ...]
    errors: Mapping[str, ImagetoolError] = _NO_ERRORS
    """By the path of the directory."""


def find_images(path: str, files: Files, *, recursive: bool = False, name: str = "") -> Found:
    """Find the images that a path, a pattern or a directory stands for.

    A path with the suffix of an image, and one that leads to no directory, is returned as it is.
    `name` is the path in error messages. Raises CannotOpen where nothing fits, WrongUsage for `**`
    within a name, HostFailed.
    """
    shown = name or path
    walk = _Walk(files, shown)
    if is_pattern(path):
        paths = walk.expand(path, recursive)
    elif names_an_image(path) or walk.is_no_folder(path):
        return Found((path,))
    else:
        paths = walk.images_in(path, recursive)
    found = Found(tuple(sorted(set(paths))), walk.errors)
    if found.paths or found.errors:
        return found
    if is_pattern(path):
        raise CannotOpen(f"{shown}: no file fits this pattern", hint="Check the directory.")
    below = "" if recursive else "; --recursive looks below it too"
    raise CannotOpen(
        f"{shown}: no image lies in this directory",
        hint=f"An image is known by its suffix ({', '.join(IMAGE_SUFFIXES)}){below}.",
    )


class _WalkedFolder(NamedTuple):
    """A directory of a walk: its path, and one that is the same by whatever links it is reached."""

    path: str
    real_path: str


class _Walk:
    """A walk through the directories of a machine; one batch of lists a level."""

    def __init__(self, files: Files, name: str) -> None:
        self._files = files
        self._name = name
        self._path_module = ntpath if files.on_windows else posixpath
        self._lists: dict[str, Sequence[FolderEntry]] = {}
        self._entry_count = 0
        self.errors: dict[str, ImagetoolError] = {}

    def is_no_folder(self, path: str) -> bool:
        """True if `path` is no directory, or there is nothing."""
        (result,) = self._files.list_folders([path])
        if not isinstance(result, ImagetoolError):
            self._lists[path] = result
        return isinstance(result, NoFile)

    def images_in(self, path: str, recursive: bool) -> Iterator[str]:
        """The files of a directory, or of all below it, that have the suffix of an image."""
        yield from self._images_in([self._start(path)], recursive)

    def _images_in(self, folders: Sequence[_WalkedFolder], recursive: bool) -> Iterator[str]:
        folders = self._below(folders) if recursive else folders
        for folder, entries in zip(folders, self._list(folders), strict=True):
            for entry in entries:
                if not entry.is_folder and entry.name.lower().endswith(IMAGE_SUFFIXES):
                    yield self._files.join(folder.path, entry.name)

    def expand(self, pattern: str, recursive: bool) -> Iterator[str]:
        """The files that a pattern fits, and the images in the directories that it fits."""
        start, parts, folders_only = self._split(pattern)
        folders = [self._start(start)]
        for part in parts[:-1]:
            if part == _ANY_DEPTH:
                folders = self._below(folders)
            else:
                folders = [
                    self._subfolder(folder, entry)
                    for folder, entries in zip(folders, self._list(folders), strict=True)
                    for entry in self._fitting(part, entries)
                    if entry.is_folder
                ]
        last = parts[-1]
        if last == _ANY_DEPTH:
            folders, last = self._below(folders), "*"
            if folders_only:
                yield from self._images_in(folders, recursive=False)
                return
        fitting: list[_WalkedFolder] = []
        for folder, entries in zip(folders, self._list(folders), strict=True):
            for entry in self._fitting(last, entries):
                if entry.is_folder:
                    fitting.append(self._subfolder(folder, entry))
                elif not folders_only:
                    yield self._files.join(folder.path, entry.name)
        yield from self._images_in(fitting, recursive)

    def _split(self, pattern: str) -> tuple[str, list[str], bool]:
        """The directory before the first name that is a pattern, the names from there on, and
        whether directories alone are meant, for a separator ends it.
        """
        drive, rest = self._path_module.splitdrive(pattern)
        separators = r"[\\/]" if self._files.on_windows else "/"
        root = drive + rest[:1] if re.match(separators, rest) else drive
        parts = [part for part in re.split(separators, rest) if part]
        fitting = [position for position, part in enumerate(parts) if is_pattern(part)]
        if not fitting:
            raise WrongUsage(
                f"{self._name}: a pattern in the name of a server or share",
                hint="Name the share; a pattern fits names of files and directories in it.",
            )
        first = fitting[0]
        for part in parts:
            if _ANY_DEPTH in part and part != _ANY_DEPTH:
                raise WrongUsage(
                    f"{self._name}: {_ANY_DEPTH} within a name",
                    hint=f"Write {_ANY_DEPTH}/{part.replace(_ANY_DEPTH, '*')} for any depth.",
                )
        start = root
        for part in parts[:first]:
            start = self._files.join(start, part)
        return start, parts[first:], bool(re.search(f"{separators}$", rest))

    def _fitting(self, part: str, entries: Sequence[FolderEntry]) -> list[FolderEntry]:
        """The entries that a name or pattern fits, that of this very name among them."""
        return [entry for entry in entries if entry.name == part or self._fits(entry.name, part)]

    def _fits(self, name: str, pattern: str) -> bool:
        if self._files.on_windows:
            return fnmatchcase(name.lower(), pattern.lower())
        if fnmatchcase(name, pattern):
            return True
        stem, dot, suffix = name.rpartition(".")
        wanted_stem, wanted_dot, wanted_suffix = pattern.rpartition(".")
        return (
            bool(dot and wanted_dot)
            and fnmatchcase(stem, wanted_stem)
            and fnmatchcase(suffix.lower(), wanted_suffix.lower())
        )

    def _start(self, path: str) -> _WalkedFolder:
        return _WalkedFolder(path, self._files.canonical(path or "."))

    def _subfolder(self, folder: _WalkedFolder, entry: FolderEntry) -> _WalkedFolder:
        target = entry.link_target or entry.name
        real = self._files.canonical(self._path_module.join(folder.real_path, target))
        return _WalkedFolder(self._files.join(folder.path, entry.name), real)

    def _below(self, folders: Sequence[_WalkedFolder]) -> list[_WalkedFolder]:
        """These directories and all below them, each once."""
        found: dict[str, _WalkedFolder] = {}
        level = list(folders)
        for _ in range(_MAX_DEPTH):
            level = list({item.real_path: item for item in reversed(level)}.values())[::-1]
            level = [item for item in level if item.real_path not in found]
            if not level:
                return list(found.values())
            found |= {item.real_path: item for item in level}
            level = [
                self._subfolder(folder, entry)
                for folder, entries in zip(level, self._list(level), strict=True)
                for entry in entries
                if entry.is_folder
            ]
        raise CannotOpen(
            f"{self._name}: directories lie more than {_MAX_DEPTH} deep",
            hint="A link may lead to itself: name the directories one by one.",
        )

    def _list(self, folders: Sequence[_WalkedFolder]) -> list[Sequence[FolderEntry]]:
        """The entries of each directory; an error leaves it empty, and is kept."""
        paths = [folder.path for folder in folders if folder.path not in self._lists]
        if paths:
            for path, result in zip(paths, self._files.list_folders(paths), strict=True):
                entries: Sequence[FolderEntry] = ()
                if isinstance(result, ImagetoolError):
                    if not isinstance(result, NoFile):
                        self.errors[path] = result
                else:
                    entries = result
                self._entry_count += len(entries)
                self._lists[path] = entries
        if self._entry_count > _MAX_ENTRIES:
            raise CannotOpen(
                f"{self._name}: more than {_MAX_ENTRIES:,} names lie there",
                hint="Name a directory further down.",
            )
        return [self._lists[folder.path] for folder in folders]
