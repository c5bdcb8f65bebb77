"""The inspection of an image: its system, its integration components, and warnings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from imagetool.contracts import Reportable
from imagetool.errors import Corrupt, ImagetoolError, SeveralInstallations, Unreadable
from imagetool.guest.disk_map import DiskDescription, describe_disk
from imagetool.guest.guest import Guest
from imagetool.guest.image import Image
from imagetool.guest.linux.guest import LinuxGuest
from imagetool.guest.windows.components import IntegrationComponents
from imagetool.guest.windows.facts import WindowsFacts
from imagetool.guest.windows.guest import WindowsGuest, read_windows_guest
from imagetool.guest.windows.installation import WindowsInstallation
from imagetool.guest.windows.pending import PendingOperations, read_pending
from imagetool.guest.windows.prefetch import prefetch_windows

_DYNAMIC_DISK_TYPES = (
    "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3",
    "af9b60a0-1431-4f62-bc68-3311714a69ad",
)
_DYNAMIC_DISK_MBR_TYPE = "42"
_STORAGE_SPACES_TYPE = "e75caf8f-f680-4cee-afa3-b001e56efc2d"
_ENCRYPTED_FILE_SYSTEMS = ("BitLocker", "LUKS")


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
    """Conditions that would hinder servicing or the guest's boot."""

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


def inspect_image(image: Image, volume: int | None = None) -> Inspection:
    """Inspect the image. Raises SeveralInstallations, Encrypted, Corrupt."""
    (inspection,) = image.gather(partial(_inspect, image, volume))
    return inspection


def _inspect(image: Image, volume: int | None) -> Inspection:
    image.prefetch(partial(prefetch_windows, image))
    warnings = _disk_warnings(image)
    try:
        windows = image.windows(volume)
    except (SeveralInstallations, Corrupt):
        raise
    except Unreadable as error:
        linux = image.linux[0][1] if image.linux else None
        note = "" if linux is not None else error.message
        return Inspection(image.path, describe_disk(image), linux, None, note, tuple(warnings))
    image.prefetch(partial(getattr, windows.volume, "warnings"))
    guest, pending = image.gather(
        partial(read_windows_guest, windows), partial(read_pending, windows)
    )
    warnings += image.warnings
    warnings += _guest_warnings(windows, guest.evidence, pending)
    disk = describe_disk(image)
    return Inspection(image.path, disk, guest, pending, "", tuple(warnings))


def _disk_warnings(image: Image) -> list[str]:
    warnings = [*image.file_warnings, *image.disk.warnings, *image.partition_table.warnings]
    if image.disk.chain:
        warnings.append(f"a differencing disk, on {' on '.join(image.disk.chain)}")
    for device in image.block_devices:
        kind = device.partition.type if device.partition is not None else ""
        if kind in _DYNAMIC_DISK_TYPES or kind == _DYNAMIC_DISK_MBR_TYPE:
            warnings.append(f"volume {device.number} belongs to a dynamic disk: no servicing")
        if kind == _STORAGE_SPACES_TYPE:
            warnings.append(f"volume {device.number} belongs to Storage Spaces: no servicing")
        if device.file_system == "ReFS":
            warnings.append(
                f"volume {device.number} is ReFS: mounting it writable on a newer host upgrades it"
            )
        if device.file_system in _ENCRYPTED_FILE_SYSTEMS:
            warnings.append(f"volume {device.number} is encrypted ({device.file_system})")
    return warnings


def _guest_warnings(
    windows: WindowsInstallation, components: IntegrationComponents, pending: PendingOperations
) -> list[str]:
    warnings = [f"volume {windows.block_device.number}: {text}" for text in windows.volume.warnings]
    for name, hive in (("SOFTWARE", windows.software), ("SYSTEM", windows.system)):
        warnings += [f"{name}: {text}" for text in hive.warnings]
    warnings += [f"pending: {text}" for text in pending.operations]
    warnings += [f"note: {text}" for text in pending.notes]
    warnings += [
        f"the boot driver {service.name} is overridden (Start {service.start}, StartOverride "
        f"{service.start_override}): the guest may not find its disk on a Hyper-V SCSI controller"
        for service in components.services
        if service.boot_start_overridden
    ]
    return warnings
