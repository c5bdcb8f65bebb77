"""Servicing operations that are pending until the guest's next boot.

Traces of Component Based Servicing: pending packages and sessions, the keys RebootPending and
RebootInProgress, the file pending.xml. The key SessionsPending alone means nothing: a healthy
system has it, empty. PendingFileRenameOperations is informational.
"""

from __future__ import annotations

from typing import NamedTuple

from imagetool.guest.windows.installation import WindowsInstallation
from imagetool.registry import Key

_CBS_KEY = "Microsoft\\Windows\\CurrentVersion\\Component Based Servicing"
_PENDING_XML = "Windows\\WinSxS\\pending.xml"
_COMPLETE = 1


class PendingOperations(NamedTuple):
    """Pending operations, each a sentence that names its evidence."""

    operations: tuple[str, ...]
    """Operations that block servicing until the guest has been booted."""
    notes: tuple[str, ...]
    """Information that blocks nothing."""


def read_pending(windows: WindowsInstallation) -> PendingOperations:
    """Read the pending servicing operations of a Windows."""
    operations: list[str] = []
    servicing = windows.software.find(_CBS_KEY)
    if servicing is not None:
        waiting = servicing.subkey("PackagesPending")
        if waiting is not None and waiting.subkey_count:
            names = ", ".join(key.name for key, _ in zip(waiting.subkeys(), range(3), strict=False))
            operations.append(f"{waiting.subkey_count} packages are pending ({names})")
        for name in ("RebootPending", "RebootInProgress"):
            if servicing.subkey(name) is not None:
                operations.append(f"the key {name} asks for a restart")
        sessions = servicing.subkey("SessionsPending")
        if sessions is not None:
            operations += _pending_sessions(sessions)
    xml = windows.volume.find(_PENDING_XML)
    if xml is not None:
        operations.append(f"{_PENDING_XML} is there")
    return PendingOperations(tuple(operations), _pending_renames(windows))


def _pending_sessions(key: Key) -> list[str]:
    found = [
        f"the servicing session {session.name} is not complete"
        for session in key.subkeys()
        if session.number("Complete") != _COMPLETE
    ]
    for name in ("Exclusive", "TotalSessionPhases"):
        number = key.number(name)
        if number:
            found.append(f"a servicing session is pending ({name} is {number})")
    return found


def _pending_renames(windows: WindowsInstallation) -> tuple[str, ...]:
    manager = windows.system.find(f"{windows.control_set}\\Control\\Session Manager")
    listed = manager.get("PendingFileRenameOperations") if manager is not None else None
    if not isinstance(listed, list) or not listed:
        return ()
    return (f"{(len(listed) + 1) // 2} files are to be renamed at the next start",)
