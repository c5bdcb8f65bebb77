"""What the end of a session undoes of its cmdlets, as the session's script does on a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

_UNDOING = {
    "Mount-VHD": ("Dismount-VHD", "Path"),
    "Mount-DiskImage": ("Dismount-DiskImage", "ImagePath"),
    "Add-PartitionAccessPath": ("Remove-PartitionAccessPath", "AccessPath"),
}
"""By cmdlet the one that undoes it, and the parameter that names what it did it to."""


class Undoing(NamedTuple):
    """A cmdlet that undoes another, with its parameters; `subject` is what both are done to."""

    cmdlet: str
    subject: str
    parameters: Mapping[str, object]


def undoing(cmdlet: str, parameters: Mapping[str, object]) -> Undoing | None:
    """Return what undoes a call; None where there is nothing to undo."""
    if cmdlet not in _UNDOING:
        return None
    other, name = _UNDOING[cmdlet]
    value = parameters.get(name)
    subject = str(value[0] if isinstance(value, list) and value else value)
    given = parameters if name == "AccessPath" else {name: value}
    return Undoing(other, subject, given)


def is_undone(item: Undoing, cmdlet: str, parameters: Mapping[str, object]) -> bool:
    """True if a call has done what `item` would."""
    names = [name for other, name in _UNDOING.values() if other == cmdlet == item.cmdlet]
    values = [parameters.get(name) for name in names]
    return item.subject in [
        str(value[0] if isinstance(value, list) and value else value) for value in values
    ]
