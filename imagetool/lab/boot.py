"""A guest's first boot, played on an image.

What is install pending becomes installed; the newest wvmbus driver becomes the active one, is
bound to the VMBus device, and its files go where Windows runs them from; then the Data Exchange
service, unless it is disabled, writes what it found. What is written is marked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from imagetool.errors import ServicingFailed
from imagetool.guest.components import (
    INSTALL_PENDING,
    INSTALLED,
    PACKAGE_NAMES,
    VALUE_KEY,
    VALUE_NAME,
    read_packages,
)
from imagetool.guest.drivers import read_driver_version
from imagetool.guest.image import open_image
from imagetool.guest.installation import CONFIG, Installation
from imagetool.guest.services import DATA_EXCHANGE, DISABLED, read_services
from imagetool.lab.packages import DRIVERS, INFS, MARK, PACKAGES, REPOSITORY, changed_hive
from imagetool.lab.workers import FileChange, KeyChange, write_files
from imagetool.package import Version

_BUS = "wvmbus.inf"
_CLASS = "Control\\Class\\{4d36e97d-e325-11ce-bfc1-08002be10318}"
_DEVICES = ("ACPI\\VMBUS", "ACPI\\MSFT1000")


@dataclass(frozen=True, slots=True)
class Boot:
    """What the boot did."""

    image: str
    installed: tuple[str, ...]
    """The packages that were install pending, and are installed now."""
    driver: Version
    """The wvmbus driver that is active and bound now."""
    recorded: bool
    """Whether Data Exchange wrote the version."""


def boot(path: str | Path, volume: int | None = None) -> Boot:
    """Play the first boot of the Windows in an image, in place.

    Raises ServicingFailed where the image has no wvmbus driver, and all that reading one raises.
    """
    disk = Path(path)
    moment = datetime.now(UTC)
    with open_image(disk) as image:
        windows = image.windows(volume)
        pending = [
            str(item.identity)
            for item in read_packages(windows, PACKAGE_NAMES)
            if item.state == INSTALL_PENDING
        ]
        files: list[FileChange] = []
        system: list[KeyChange] = []
        driver = _activate(windows, files, system)
        services = {service.name: service.effective for service in read_services(windows)}
        runs = services.get(DATA_EXCHANGE) not in (None, DISABLED)
        software = [
            KeyChange(f"{PACKAGES}\\{name}").number("CurrentState", INSTALLED) for name in pending
        ]
        if runs:
            software += _recorded(windows, driver)
        said = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
        software.append(KeyChange(MARK).text("Booted", said))
        for name, keys in (("SOFTWARE", software), ("SYSTEM", system)):
            files.append(FileChange(f"{CONFIG}\\{name}", changed_hive(windows, name, keys)))
        place = windows.place.partition
        offset, size = (place.offset, place.size) if place else (0, image.disk.size)
    write_files(disk, offset, size, files)
    return Boot(str(path), tuple(pending), driver, runs)


def _activate(windows: Installation, files: list[FileChange], system: list[KeyChange]) -> Version:
    """Make the newest package of every integration driver the active one; the bus's version."""
    infs = windows.system.find(INFS)
    packages = windows.system.find(DRIVERS)
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
        if inf.name.lower() == _BUS:
            bus = version
        if inf.text("Active") == name:
            continue
        system.append(KeyChange(f"{INFS}\\{inf.name}").text("Active", name))
        store = windows.volume.find(f"{REPOSITORY}\\{name}")
        for entry in store.entries() if store is not None else ():
            if entry.name.lower().endswith(".sys"):
                node = windows.volume.lookup(f"{REPOSITORY}\\{name}\\{entry.name}")
                data = node.open()
                target = f"Windows\\System32\\drivers\\{entry.name}"
                files.append(FileChange(target, data.read_at(0, data.size)))
    if bus is None:
        raise ServicingFailed(
            f"{windows.image.path}: there is no wvmbus driver in the DriverDatabase",
            hint="Only guests of Windows 8 and later can be booted here.",
        )
    system.append(_bind(windows, bus))
    return bus


def _bind(windows: Installation, version: Version) -> KeyChange:
    """The VMBus device's key with the driver's version; a new one where there is none."""
    path = f"{windows.control_set}\\{_CLASS}"
    key = windows.system.find(path)
    devices = list(key.subkeys()) if key is not None else []
    number = next(
        (item.name for item in devices if item.text("MatchingDeviceId").upper() in _DEVICES),
        f"{len(devices):04}",
    )
    change = KeyChange(f"{path}\\{number}").text("MatchingDeviceId", "acpi\\vmbus")
    change.text("DriverVersion", str(version)).text("DriverDate", "6-21-2006")
    return change.text("InfPath", _BUS).text("DriverDesc", "Virtual Machine Bus")


def _recorded(windows: Installation, version: Version) -> list[KeyChange]:
    """What the Data Exchange service writes: what it found, and what the host told it."""
    auto = KeyChange(VALUE_KEY).text(VALUE_NAME, str(version)).text("OSName", windows.product)
    host = KeyChange("Microsoft\\Virtual Machine\\Guest\\Parameters")
    host.text("HostName", "LAB").text("PhysicalHostName", "LAB")
    host.text("PhysicalHostNameFullyQualified", "lab.example.org")
    return [auto, host.text("VirtualMachineName", "rehearsal")]
