"""Servicing operations that wait for the guest's next start.

Component Based Servicing, seen from outside: packages and sessions that wait, flags that ask for a
restart, the file pending.xml. The key SessionsPending alone means nothing: a healthy system has it,
empty. Files to be renamed at the next start are informational.
"""

from __future__ import annotations

from dataclasses import dataclass

from imagetool.guest.installation import WindowsInstallation
from imagetool.registry import Key

_CBS_KEY = "Microsoft\\Windows\\CurrentVersion\\Component Based Servicing"
_PENDING_XML = "Windows\\WinSxS\\pending.xml"
_COMPLETE = 1


@dataclass(frozen=True, slots=True)
class PendingOperations:
    """What waits: each a sentence that names where it was seen."""

    operations: tuple[str, ...]
    """What keeps servicing from going on before the guest has been started."""
    notes: tuple[str, ...]
    """What is worth knowing, and decides nothing."""


def read_pending(windows: WindowsInstallation) -> PendingOperations:
    """The servicing operations that wait in this Windows."""
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
