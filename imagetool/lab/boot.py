"""A guest's first boot, played on an image.

Packages that are install pending become installed; the newest wvmbus driver becomes the active
one, is bound to the VMBus device, and its files are copied to System32\\drivers; then the Data
Exchange service, unless it is disabled, writes the version. The guest is marked as booted.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from imagetool.errors import DoesNotApply, ServicingFailed
from imagetool.guest.image import open_image
from imagetool.guest.windows.components import (
    INSTALL_PENDING,
    INSTALLED,
    INTEGRATION_VERSION_KEY,
    INTEGRATION_VERSION_NAME,
    read_packages,
)
from imagetool.guest.windows.drivers import read_driver_version
from imagetool.guest.windows.guest import read_windows_guest
from imagetool.guest.windows.installation import HIVE_DIRECTORY, WindowsInstallation
from imagetool.guest.windows.services import SERVICE_DISABLED
from imagetool.lab.packages import (
    CBS_PACKAGES_KEY,
    DRIVER_INF_FILES_KEY,
    DRIVER_PACKAGES_KEY,
    FILE_REPOSITORY,
    LAB_MARK_KEY,
    change_guest_hive,
)
from imagetool.lab.workers import FileChange, KeyChange, write_files
from imagetool.package import Version
from imagetool.package.identity import INTEGRATION_PACKAGE_NAMES

_VMBUS_INF = "wvmbus.inf"
_SYSTEM_CLASS_KEY = "Control\\Class\\{4d36e97d-e325-11ce-bfc1-08002be10318}"
_VMBUS_DEVICE_IDS = ("ACPI\\VMBUS", "ACPI\\MSFT1000")


@dataclass(frozen=True, slots=True)
class BootResult:
    """The changes that a boot made to an image."""

    image: str
    installed: tuple[str, ...]
    """The packages that were install pending, and are installed now."""
    driver: Version
    """The wvmbus driver that is active and bound now."""
    recorded: bool
    """True if Data Exchange wrote the version."""


def boot(path: str | Path, volume: int | None = None, *, force: bool = False) -> BootResult:
    """Play the first boot of the Windows in an image, in place.

    Raises DoesNotApply for an image that the emulated host did not service, unless `force` is set;
    ServicingFailed where the image has no wvmbus driver or does not start it at boot, and what
    reading an image raises.
    """
    disk = Path(path)
    timestamp = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="imagetool-") as temporary, open_image(disk) as image:
        folder = Path(temporary)
        windows = image.windows(volume)
        marks = windows.software.find(LAB_MARK_KEY)
        if not force and (marks is None or marks.value("Serviced") is None):
            raise DoesNotApply(
                f"{disk}: the emulated host did not service this image, and a boot rewrites it in "
                "place",
                hint="Boot a copy that `imagetool inject --host lab` made, or use --force.",
            )
        guest = read_windows_guest(windows)
        if guest.boot_faults:
            raise ServicingFailed(
                f"{disk}: its integration components would not start: "
                + "; ".join(guest.boot_faults),
                hint="Such a boot is not played; mend the guest, or start again from its template.",
            )
        pending = [
            str(item.identity)
            for item in read_packages(windows, INTEGRATION_PACKAGE_NAMES)
            if item.state == INSTALL_PENDING
        ]
        files: list[FileChange] = []
        system: list[KeyChange] = []
        driver = _activate_drivers(windows, files, system)
        runs = guest.evidence.data_exchange_start not in (None, SERVICE_DISABLED)
        software = [
            KeyChange(f"{CBS_PACKAGES_KEY}\\{name}").set_dword("CurrentState", INSTALLED)
            for name in pending
        ]
        if runs:
            software += _data_exchange_keys(windows, driver)
        mark = f"{timestamp:%Y-%m-%dT%H:%M:%SZ}"
        software.append(KeyChange(LAB_MARK_KEY).set_sz("Booted", mark))
        for name, keys in (("SOFTWARE", software), ("SYSTEM", system)):
            files.append(
                FileChange(
                    f"{HIVE_DIRECTORY}\\{name}", change_guest_hive(windows, name, keys, folder)
                )
            )
        partition = windows.block_device.partition
        offset, size = (partition.offset, partition.size) if partition else (0, image.disk.size)
        write_files(disk, offset, size, files)
    return BootResult(str(path), tuple(pending), driver, runs)


def _activate_drivers(
    windows: WindowsInstallation, files: list[FileChange], system: list[KeyChange]
) -> Version:
    """Activate the newest package of every driver; return the version of wvmbus."""
    infs = windows.system.find(DRIVER_INF_FILES_KEY)
    packages = windows.system.find(DRIVER_PACKAGES_KEY)
    bus: Version | None = None
    for inf in infs.subkeys() if infs is not None else ():
        found = [
            (version, package.name)
            for package in (packages.subkeys(f"{inf.name}_") if packages is not None else ())
            if (version := read_driver_version(package.get("Version"))) is not None
        ]
        if not found:
            continue
        version, name = max(found)
        if inf.name.lower() == _VMBUS_INF:
            bus = version
        if inf.text("Active") == name:
            continue
        system.append(KeyChange(f"{DRIVER_INF_FILES_KEY}\\{inf.name}").set_sz("Active", name))
        store = windows.volume.find(f"{FILE_REPOSITORY}\\{name}")
        for entry in store.entries() if store is not None else ():
            if entry.name.lower().endswith(".sys"):
                node = windows.volume.lookup(f"{FILE_REPOSITORY}\\{name}\\{entry.name}")
                data = node.open()
                target = f"Windows\\System32\\drivers\\{entry.name}"
                files.append(FileChange(target, data.read_at(0, data.size)))
    if bus is None:
        raise ServicingFailed(
            f"{windows.image.path}: there is no wvmbus driver in the DriverDatabase",
            hint="Only guests of Windows 8 and later can be booted here.",
        )
    system.append(_bind_vmbus_device(windows, bus))
    return bus


def _bind_vmbus_device(windows: WindowsInstallation, version: Version) -> KeyChange:
    """Return the change to the VMBus device's key, a new key where there is none."""
    path = f"{windows.control_set}\\{_SYSTEM_CLASS_KEY}"
    key = windows.system.find(path)
    devices = list(key.subkeys()) if key is not None else []
    number = next(
        (
            item.name
            for item in devices
            if item.text("MatchingDeviceId").upper() in _VMBUS_DEVICE_IDS
        ),
        f"{len(devices):04}",
    )
    change = KeyChange(f"{path}\\{number}").set_sz("MatchingDeviceId", "acpi\\vmbus")
    change.set_sz("DriverVersion", str(version)).set_sz("DriverDate", "6-21-2006")
    return change.set_sz("InfPath", _VMBUS_INF).set_sz("DriverDesc", "Virtual Machine Bus")


def _data_exchange_keys(windows: WindowsInstallation, version: Version) -> list[KeyChange]:
    """Return the keys that the Data Exchange service writes: the guest's own, and the host's."""
    auto = (
        KeyChange(INTEGRATION_VERSION_KEY)
        .set_sz(INTEGRATION_VERSION_NAME, str(version))
        .set_sz("OSName", windows.product)
    )
    host = KeyChange("Microsoft\\Virtual Machine\\Guest\\Parameters")
    host.set_sz("HostName", "LAB").set_sz("PhysicalHostName", "LAB")
    host.set_sz("PhysicalHostNameFullyQualified", "lab.example.org")
    return [auto, host.set_sz("VirtualMachineName", "rehearsal")]
