"""Add-WindowsPackage and Get-WindowsPackage on an offline image, by the package's manifests.

Payload goes into the component store and the driver store, manifest and catalog into
servicing\\Packages, the package's key under Component Based Servicing with the state install
pending, the drivers into the DriverDatabase, the services' keys into the control set. The active
driver and IntegrationServicesVersion are left alone: the guest sets them at its next boot. DISM's
behaviour beyond its documentation was not observed; docs/validation.md says so.
"""

from __future__ import annotations

import hashlib
import struct
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from imagetool.disk.filetime import to_filetime
from imagetool.errors import ImagetoolError
from imagetool.guest.image import open_image
from imagetool.guest.windows.components import INSTALL_PENDING, INSTALLED, PERMANENT, read_packages
from imagetool.guest.windows.installation import HIVE_DIRECTORY, WindowsInstallation
from imagetool.lab.cmdlet import CmdletFailure, ReportCallback, StreamRecord
from imagetool.lab.package_layout import path_in_guest
from imagetool.lab.workers import FileChange, KeyChange, change_hive, write_files
from imagetool.package import Component, Identity, Package, open_package
from imagetool.registry import Hive

LAB_MARK_KEY = "imagetool\\Lab"
"""In SOFTWARE: marks an image that the emulated host has changed."""
CBS_PACKAGES_KEY = "Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\Packages"
DRIVER_INF_FILES_KEY = "DriverDatabase\\DriverInfFiles"
DRIVER_PACKAGES_KEY = "DriverDatabase\\DriverPackages"
FILE_REPOSITORY = "Windows\\System32\\DriverStore\\FileRepository"

_SYSTEM_CLASS = UUID("4d36e97d-e325-11ce-bfc1-08002be10318")
_DRIVER_DATE = datetime(2006, 6, 21, tzinfo=UTC)
_SERVICE_START_TYPES = {"boot": 0, "system": 1, "auto": 2, "demand": 3, "disabled": 4}
_DESTINATION_FOLDERS = {
    "$(runtime.system32)": "Windows\\System32",
    "$(runtime.drivers)": "Windows\\System32\\drivers",
}
_CHUNK_BYTES = 1 << 20
_CBS_E_NOT_APPLICABLE, _CBS_E_INVALID_PACKAGE = 0x800F081E, 0x800F0805


def add_package(
    disk: Path, volume: int, cabinet: Path, report: ReportCallback, lock: int | None = None
) -> None:
    """Add a package to the Windows on volume number `volume` of a disk.

    `lock` is the descriptor that holds the lock on the disk's file. Raises CmdletFailure with the
    HRESULT of the real cmdlet.
    """
    with tempfile.TemporaryDirectory(prefix="imagetool-") as folder:
        offset, size, files = _changed_files(disk, volume, cabinet, report, Path(folder))
        write_files(disk, offset, size, files, lock)
    report(StreamRecord("progress", "Adding the package", 100))


def _changed_files(
    disk: Path, volume: int, cabinet: Path, report: ReportCallback, folder: Path
) -> tuple[int, int, list[FileChange]]:
    """Return offset and size of the volume, and the files to write; contents go into `folder`."""
    try:
        media = open_package(cabinet)
    except ImagetoolError:
        raise _dism_failure(
            cabinet, _CBS_E_INVALID_PACKAGE, "The package is not valid.", report
        ) from None
    with media, open_image(disk) as image:
        windows = image.windows(volume)
        package = media.packages[0]
        try:
            _check_applicable(windows, package, cabinet, report)
            staged = _StagedPackage(package, folder)
            files, software, system = _plan_changes(windows, staged, datetime.now(UTC), report)
        except CmdletFailure:
            raise
        except ImagetoolError:
            raise _dism_failure(
                cabinet, _CBS_E_INVALID_PACKAGE, "The package is not valid.", report
            ) from None
        hives = {"SOFTWARE": software, "SYSTEM": system}
        files += [
            FileChange(f"{HIVE_DIRECTORY}\\{name}", change_guest_hive(windows, name, keys, folder))
            for name, keys in hives.items()
        ]
        partition = windows.block_device.partition
        offset, size = (partition.offset, partition.size) if partition else (0, image.disk.size)
    return offset, size, files


def _dism_failure(
    cabinet: Path, hresult: int, message: str, report: ReportCallback
) -> CmdletFailure:
    report(StreamRecord("warning", f"Failed to add package {cabinet}"))
    report(StreamRecord("warning", f"Add-WindowsPackage failed. Error code = 0x{hresult:08x}"))
    return CmdletFailure(
        message,
        hresult=hresult,
        error_id="Microsoft.Dism.Commands.AddWindowsPackageCommand",
    )


def _check_applicable(
    windows: WindowsInstallation, package: Package, cabinet: Path, report: ReportCallback
) -> None:
    """Check as DISM does that a parent is installed, for this architecture."""
    names = sorted({parent.name for parent in package.parents})
    for item in read_packages(windows, names):
        for parent in package.parents:
            own = item.identity
            same = (own.name, own.architecture) == (parent.name, parent.architecture)
            fitting = own.version[:2] == parent.version[:2] and own.version >= parent.version
            if same and fitting and item.state in (INSTALLED, PERMANENT):
                return
    sentence = "The specified package is not applicable to this image."
    raise _dism_failure(cabinet, _CBS_E_NOT_APPLICABLE, sentence, report)


def change_guest_hive(
    windows: WindowsInstallation, name: str, keys: list[KeyChange], folder: Path
) -> Path:
    """Write a hive of the guest into `folder`, with the changes made; return its path.

    Raises CmdletFailure for a dirty hive.
    """
    hive: Hive = windows.hive(name)
    if hive.dirty:
        raise CmdletFailure(f"The hive {name} is dirty.", hresult=0x800703F1)
    node = windows.volume.lookup(f"{HIVE_DIRECTORY}\\{name}")
    source, path = node.open(), folder / name
    with path.open("wb") as file:
        for offset in range(0, source.size, _CHUNK_BYTES):
            file.write(source.read_at(offset, _CHUNK_BYTES))
    change_hive(path, keys, datetime.now(UTC))
    return path


class _StagedPackage:
    """A package whose members are written into a directory when they are asked for."""

    def __init__(self, package: Package, folder: Path) -> None:
        self.package = package
        self._folder = folder
        self._paths: dict[str, Path] = {}

    def member(self, name: str) -> Path:
        """Return the file that holds a member. Raises Corrupt."""
        if name not in self._paths:
            path = self._folder / f"member-{len(self._paths)}"
            path.write_bytes(self.package.read(name))
            self._paths[name] = path
        return self._paths[name]


def _plan_changes(
    windows: WindowsInstallation,
    staged: _StagedPackage,
    timestamp: datetime,
    report: ReportCallback,
) -> tuple[list[FileChange], list[KeyChange], list[KeyChange]]:
    package = staged.package
    identity = package.identity
    files: list[FileChange] = []
    system: list[KeyChange] = []
    software = [_package_key(identity, package.name, timestamp)]
    members = package.members()
    for number, member in enumerate(members):
        if number % 16 == 0:
            report(StreamRecord("progress", "Adding the package", 90 * number // len(members)))
        files.append(FileChange(path_in_guest(member.name, identity), staged.member(member.name)))
    for component in package.components():
        payload = {
            member.name.rpartition("/")[2]: staged.member(member.name)
            for member in members
            if member.name.startswith(f"{component.directory}/")
        }
        if component.manifest.is_driver:
            files += _stage_driver(windows, component, payload, system)
        else:
            files += _project_files(component, payload)
        _add_registry_changes(windows, component, software, system)
    mark = f"{identity} {timestamp:%Y-%m-%dT%H:%M:%SZ}"
    software.append(KeyChange(LAB_MARK_KEY).set_sz("Serviced", mark))
    return files, software, system


def _package_key(identity: Identity, name: str, timestamp: datetime) -> KeyChange:
    stamp = to_filetime(timestamp)
    key = KeyChange(f"{CBS_PACKAGES_KEY}\\{identity}")
    key.set_dword("CurrentState", INSTALL_PENDING)
    key.set_sz("InstallClient", "DISM Package Manager Provider").set_sz("InstallName", "update.mum")
    key.set_sz("InstallLocation", f"\\\\?\\{name}").set_dword("SelfUpdate", 0).set_dword(
        "Visibility", 1
    )
    return key.set_dword("InstallTimeHigh", stamp >> 32).set_dword(
        "InstallTimeLow", stamp & 0xFFFFFFFF
    )


def _stage_driver(
    windows: WindowsInstallation,
    component: Component,
    payload: dict[str, Path],
    system: list[KeyChange],
) -> list[FileChange]:
    """Return the driver store's files; add the DriverDatabase's keys to `system`."""
    identity = component.manifest.identity
    inf = identity.name
    content = hashlib.sha256()
    for path in payload.values():
        content.update(path.read_bytes())
    digest = content.hexdigest()[:16]
    name = f"{inf}_{identity.architecture}_{digest}"
    number = 0
    for part in identity.version:
        number = number << 16 | part
    version = struct.pack("<IHH", 0x0009FFFF, 0, 0) + _SYSTEM_CLASS.bytes_le
    version += struct.pack("<QQQ", to_filetime(_DRIVER_DATE), number, 0)
    key = KeyChange(f"{DRIVER_PACKAGES_KEY}\\{name}").set_sz("", inf).set_binary("Version", version)
    system.append(key.set_sz("Provider", "Microsoft"))
    known = windows.system.find(f"{DRIVER_INF_FILES_KEY}\\{inf}")
    listed = known.get("") if known is not None else None
    before = listed if isinstance(listed, list) else []
    system.append(
        KeyChange(f"{DRIVER_INF_FILES_KEY}\\{inf}").set_multi_sz("", dict.fromkeys([*before, name]))
    )
    return [
        FileChange(f"{FILE_REPOSITORY}\\{name}\\{file}", path) for file, path in payload.items()
    ]


def _project_files(component: Component, payload: dict[str, Path]) -> list[FileChange]:
    """Return the component's files at the destinations that its manifest names."""
    found = []
    for file in component.manifest.files:
        root, _, rest = file.destination.rstrip("\\").partition("\\")
        folder = _DESTINATION_FOLDERS.get(root.lower())
        if folder is not None and file.name in payload:
            path = "\\".join(filter(None, (folder, rest, file.name)))
            found.append(FileChange(path, payload[file.name]))
    return found


def _add_registry_changes(
    windows: WindowsInstallation,
    component: Component,
    software: list[KeyChange],
    system: list[KeyChange],
) -> None:
    """Add the component's keys and values; an existing service keeps its start type."""
    services = f"{windows.control_set}\\Services"
    for service in component.manifest.services:
        if windows.system.find(f"{services}\\{service.name}") is None:
            key = KeyChange(f"{services}\\{service.name}")
            key.set_dword("Type", 0x20).set_dword(
                "Start", _SERVICE_START_TYPES.get(service.start.lower(), 3)
            )
            key.set_dword("ErrorControl", 1).set_sz("ObjectName", service.object_name)
            system.append(key.set_expand_sz("ImagePath", service.image_path))
    for entry in component.manifest.registry:
        upper = entry.key.upper()
        for root, changes, below in (
            ("HKEY_LOCAL_MACHINE\\SOFTWARE\\", software, ""),
            ("HKEY_LOCAL_MACHINE\\SYSTEM\\CURRENTCONTROLSET\\", system, windows.control_set),
        ):
            if upper.startswith(root):
                rest = entry.key[len(root) :]
                key = KeyChange(f"{below}\\{rest}" if below else rest)
                if entry.name is not None and entry.type.upper() == "REG_EXPAND_SZ":
                    key.set_expand_sz(entry.name, entry.data)
                elif entry.name is not None and entry.type.upper() == "REG_SZ":
                    key.set_sz(entry.name, entry.data)
                changes.append(key)


def list_packages(disk: Path, volume: int) -> list[tuple[Identity, int, datetime | None]]:
    """Return the packages of the Windows on a volume: identity, state, install time."""
    with open_image(disk) as image:
        windows = image.windows(volume)
        key = windows.software.find(CBS_PACKAGES_KEY)
        names = {item.name.partition("~")[0] for item in (key.subkeys() if key else ())}
        return [
            (item.identity, item.state, item.installed_at)
            for item in read_packages(windows, sorted(names))
        ]
