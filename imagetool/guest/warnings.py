"""Warnings about an image, from everything that was read of it.

Each reader (a disk, a volume, a hive) knows its own; here they come together, so that every command
says all that concerns what it has read. Nothing is read for their sake.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from imagetool.errors import BudgetSpent, NotFound, Unreadable

if TYPE_CHECKING:
    from imagetool.guest.image import BlockDevice

_DYNAMIC_DISK_TYPES = (
    "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3",
    "af9b60a0-1431-4f62-bc68-3311714a69ad",
    "42",  # on an MBR disk
)
_STORAGE_SPACES_TYPE = "e75caf8f-f680-4cee-afa3-b001e56efc2d"
_ENCRYPTED_FILE_SYSTEMS = ("BitLocker", "LUKS")


class Warned(Protocol):
    """A reader with warnings about what it reads, each a sentence."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences, without the name of what they are about."""


class WarningCollector:
    """The readers that an image was read with; their warnings are asked for when it is."""

    def __init__(self) -> None:
        self._readers: list[tuple[str, Warned]] = []
        self._notes: list[str] = []

    def note(self, text: str) -> None:
        """Add a warning of its own."""
        self._notes.append(text)

    def add(self, prefix: str, reader: Warned) -> None:
        """Add a reader; `prefix` stands before each of its warnings."""
        self._readers.append((prefix, reader))

    def collect(self) -> Iterator[str]:
        """The warnings of all readers, in the order in which they were added.

        A reader whose state cannot be read is warned of. Raises HostFailed, BudgetSpent.
        """
        for prefix, reader in list(self._readers):
            try:
                found = reader.warnings
            except BudgetSpent:
                raise
            except (Unreadable, NotFound) as error:
                found = (f"its state cannot be read: {error.message}",)
            for text in found:
                yield f"{prefix}{text}"
        yield from self._notes


def device_warnings(devices: Iterable[BlockDevice]) -> Iterator[str]:
    """The warnings about block devices, by their types and file systems."""
    for device in devices:
        kind = device.partition.type if device.partition is not None else ""
        name = f"volume {device.number}"
        if kind in _DYNAMIC_DISK_TYPES:
            yield f"{name} belongs to a dynamic disk: no servicing"
        if kind == _STORAGE_SPACES_TYPE:
            yield f"{name} belongs to Storage Spaces: no servicing"
        if device.file_system == "ReFS":
            yield f"{name} is ReFS: mounting it writable on a newer host upgrades it"
        if device.file_system in _ENCRYPTED_FILE_SYSTEMS:
            yield f"{name} is encrypted ({device.file_system}), and was not looked into"
        if device.file_system == "Linux RAID":
            yield f"{name} is a member of a Linux RAID, which is not read"
