"""Trees of the results of `filesystem`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagetool.report.data import Document, builds

if TYPE_CHECKING:
    from imagetool.filesystem.listing import DirectoryListing


@builds("filesystem.listing.DirectoryListing")
def _directory_listing(result: DirectoryListing) -> Document:
    entries = [
        {
            "name": entry.name,
            "directory": entry.directory,
            "size": entry.size,
            "modified": entry.modified,
        }
        for entry in result.entries
    ]
    return Document(
        "file-list", {"path": result.path, "entries": entries, "warnings": result.warnings}
    )
