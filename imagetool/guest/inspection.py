"""The inspection of an image: its system, its integration components, and warnings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from imagetool.contracts import Reportable
from imagetool.errors import (
    BudgetSpent,
    Corrupt,
    ImagetoolError,
    SeveralInstallations,
    Unreadable,
)
from imagetool.guest.disk_map import DiskDescription, describe_disk
from imagetool.guest.guest import Guest
from imagetool.guest.image import Image
from imagetool.guest.linux.guest import LinuxGuest
from imagetool.guest.windows.components import IntegrationComponents
from imagetool.guest.windows.facts import WindowsFacts
from imagetool.guest.windows.guest import WindowsGuest, read_windows_guest
from imagetool.guest.windows.pending import PendingOperations, read_pending
from imagetool.guest.windows.prefetch import prefetch_windows


@dataclass(frozen=True, slots=True, repr=False)
class Inspection(Reportable):
    """The contents of an image. Without an operating system, `note` says what was found instead."""

    image: str
    disk: DiskDescription
    guest: Guest | None
    pending: PendingOperations | None
    """Operations that wait in Windows; None for other guests."""
    note: str
    warnings: tuple[str, ...]
    """Sentences about all that was read, and conditions that would hinder the guest's boot."""

    @property
    def windows(self) -> WindowsFacts | None:
        """The facts of the guest, where it is a Windows."""
        return self.guest.facts if isinstance(self.guest, WindowsGuest) else None

    @property
    def components(self) -> IntegrationComponents | None:
        """The evidence about integration components, where the guest is a Windows."""
        return self.guest.evidence if isinstance(self.guest, WindowsGuest) else None

    @property
    def linux(self) -> LinuxGuest | None:
        """The guest, where it is a Linux."""
        return self.guest if isinstance(self.guest, LinuxGuest) else None

    def __repr__(self) -> str:
        if self.guest is None:
            return f"Inspection({self.note!r})"
        return f"Inspection({f'{self.guest.name}, {self.guest.version}'!r})"


class NoInspection(NamedTuple):
    """An image that could not be inspected, and the error."""

    image: str
    error: ImagetoolError


@dataclass(frozen=True, slots=True)
class InspectionReport(Reportable):
    """The inspections of several images, and the errors of those that could not be inspected."""

    images: tuple[Inspection | NoInspection, ...]
    error: ImagetoolError | None = None
    """The failure that ended the work before every image was inspected."""


def inspect_image(image: Image, volume: int | None = None) -> Inspection:
    """Inspect the image. Raises SeveralInstallations, Encrypted, Corrupt, BudgetSpent."""
    with image.budget:
        (inspection,) = image.gather(partial(_inspect, image, volume))
    return inspection


def _inspect(image: Image, volume: int | None) -> Inspection:
    image.prefetch(partial(prefetch_windows, image))
    try:
        windows = image.windows(volume)
    except (SeveralInstallations, Corrupt, BudgetSpent):
        raise
    except Unreadable as error:
        linux = image.linux[0][1] if image.linux else None
        note = "" if linux is not None else error.message
        return Inspection(image.path, describe_disk(image), linux, None, note, image.warnings)
    image.prefetch(partial(getattr, windows.volume, "warnings"))
    guest, pending = image.gather(
        partial(read_windows_guest, windows), partial(read_pending, windows)
    )
    disk = describe_disk(image)
    warnings = (*image.warnings, *guest.boot_faults, *guest.warnings)
    return Inspection(image.path, disk, guest, pending, "", warnings)
