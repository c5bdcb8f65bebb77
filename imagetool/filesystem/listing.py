"""The list of a directory as data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from imagetool.contracts import Reportable
from imagetool.filesystem.volume import Node


class DirectoryEntry(NamedTuple):
    """A file or directory in a directory; its size in bytes, as the directory has it."""

    name: str
    directory: bool
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class DirectoryListing(Reportable):
    """The entries of the directory at `path`, in its order."""

    path: str
    entries: tuple[DirectoryEntry, ...]
    warnings: tuple[str, ...] = ()
    """Warnings about all that was read to find it."""


def list_directory(node: Node, warnings: tuple[str, ...] = ()) -> DirectoryListing:
    """List a directory. Raises NotFound for a file, Corrupt."""
    return DirectoryListing(
        node.path,
        tuple(
            DirectoryEntry(entry.name, entry.is_directory, entry.size, entry.modified)
            for entry in node.entries()
        ),
        warnings,
    )
