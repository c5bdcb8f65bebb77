"""Directories of a host, from the answer of the script's operation `list`."""

from __future__ import annotations

from collections.abc import Mapping

from imagetool.contracts import FolderEntry
from imagetool.errors import CannotOpen, HostFailed, ImagetoolError, NoFile


def folder_list(name: str, answer: object) -> tuple[FolderEntry, ...] | ImagetoolError:
    """Return the entries of the directory that messages call `name`, or its error.

    An entry is one text: "d" for a directory or "f", the name, and behind a NUL the target of a
    link. Raises HostFailed for an answer of another form.
    """
    if not isinstance(answer, Mapping):
        raise HostFailed(f"{name}: the host does not answer as it should")
    if answer.get("missing"):
        return NoFile(f"{name}: there is no such directory", hint="Check the path.")
    reason, entries = answer.get("error"), answer.get("entries")
    if reason:
        return CannotOpen(
            f"{name}: the directory cannot be listed on the host: {reason}",
            hint="The session's user must be one who may read it there.",
        )
    if not isinstance(entries, list):
        raise HostFailed(f"{name}: the host does not answer as it should")
    return tuple(_parse_entry(str(item)) for item in entries)


def _parse_entry(text: str) -> FolderEntry:
    name, _, target = text[1:].partition("\0")
    return FolderEntry(name, text[:1] == "d", target)
