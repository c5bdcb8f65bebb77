"""The integration components of a Windows guest: every piece of evidence, and where it was seen.

Each is read on its own and reported on its own: what the guest recorded, the driver that the next
boot runs, the one that the last boot bound, the packages under Component Based Servicing with what
they left in the image, the service that writes the record, and the versions of two files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from imagetool.disk.filetime import from_filetime
from imagetool.errors import ImagetoolError
from imagetool.guest.image import Installation
from imagetool.guest.payload import Payload, read_driver_version, read_payload
from imagetool.guest.version_resource import read_version
from imagetool.package.identity import Identity, Version
from imagetool.registry import Key

PACKAGE_NAMES = (
    "Microsoft-Hyper-V-Integration-Services-Package",
    "Microsoft-Hyper-V-Integration-Services-Package-2",
)
VALUE_KEY = "Microsoft\\Virtual Machine\\Auto"
VALUE_NAME = "IntegrationServicesVersion"
DATA_EXCHANGE = "vmickvpexchange"

_PACKAGES = "Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\Packages"
_SYSTEM_CLASS = "Control\\Class\\{4d36e97d-e325-11ce-bfc1-08002be10318}"
_VMBUS_DEVICES = ("ACPI\\VMBUS", "ACPI\\MSFT1000")
_FILES = ("Windows\\System32\\drivers\\vmbus.sys", "Windows\\System32\\icsvc.dll")

# States of a package (CurrentState)
UNINSTALL_PENDING, INSTALL_PENDING, PARTIALLY_INSTALLED = 0x05, 0x60, 0x65
INSTALLED, PERMANENT = 0x70, 0x80
STATE_NAMES = {
    0x00: "absent",
    0x05: "uninstall pending",
    0x10: "resolving",
    0x20: "resolved",
    0x30: "staging",
    0x40: "staged",
    0x50: "superseded",
    0x60: "install pending",
    0x65: "partially installed",
    0x70: "installed",
    0x80: "permanent",
}


@dataclass(frozen=True, slots=True)
class ServicedPackage:
    """A package that Component Based Servicing knows."""

    identity: Identity
    state: int
    """CurrentState as a signed number; negative: failed."""
    installed: datetime | None
    payload: Payload | None
    """What it left in the image; read for integration services packages only."""

    @property
    def state_name(self) -> str:
        """The state in words."""
        return "failed" if self.state < 0 else STATE_NAMES.get(self.state, f"0x{self.state:02x}")


@dataclass(frozen=True, slots=True)
class Components:
    """The evidence about a guest's integration components."""

    recorded: str | None
    """IntegrationServicesVersion as the guest wrote it, None where it has not."""
    recorded_at: datetime | None
    """When the key that holds it was written last."""
    active_driver: Version | None
    """The wvmbus driver that the next boot runs."""
    active_driver_package: str
    bound: Version | None
    """The driver that the last boot on Hyper-V bound to the VMBus device."""
    packages: tuple[ServicedPackage, ...]
    """Integration services packages, whatever their state."""
    data_exchange_start: int | None
    """The effective start of vmickvpexchange: 2 automatic, 3 on demand, 4 disabled."""
    vmbus_sys: Version | None
    icsvc_dll: Version | None

    @property
    def recorded_version(self) -> Version | None:
        """The recorded text as a version, where it is one."""
        return Version.parse(self.recorded) if self.recorded is not None else None


def read_components(windows: Installation) -> Components:
    """All the evidence. Raises Corrupt where the image is damaged where it matters."""
    auto = windows.software.find(VALUE_KEY)
    value = auto.value(VALUE_NAME) if auto is not None else None
    active, active_package = _active_driver(windows)
    vmbus, icsvc = _file_versions(windows)
    return Components(
        recorded=None if value is None else value.text(),
        recorded_at=auto.last_written if auto is not None and value is not None else None,
        active_driver=active,
        active_driver_package=active_package,
        bound=_bound_driver(windows),
        packages=tuple(read_packages(windows, PACKAGE_NAMES, with_payload=True)),
        data_exchange_start=effective_start(windows, DATA_EXCHANGE),
        vmbus_sys=vmbus,
        icsvc_dll=icsvc,
    )


def read_packages(
    windows: Installation, names: Iterable[str], *, with_payload: bool = False
) -> list[ServicedPackage]:
    """The packages of these names that Component Based Servicing knows, whatever their state."""
    key = windows.software.find(_PACKAGES)
    found: list[ServicedPackage] = []
    for name in names if key is not None else ():
        for subkey in key.subkeys(f"{name}~") if key is not None else ():
            identity = Identity.parse(subkey.name)
            if identity is None:
                continue
            state = subkey.number("CurrentState") or 0
            state -= (state & 0x80000000) << 1
            payload = read_payload(windows, identity) if with_payload else None
            found.append(ServicedPackage(identity, state, _install_time(subkey), payload))
    return sorted(found, key=lambda package: package.identity.version)


def _install_time(key: Key) -> datetime | None:
    high, low = key.number("InstallTimeHigh"), key.number("InstallTimeLow")
    return None if high is None or low is None else from_filetime(high << 32 | low)


def _active_driver(windows: Installation) -> tuple[Version | None, str]:
    key = windows.system.find("DriverDatabase\\DriverInfFiles\\wvmbus.inf")
    package = key.text("Active") if key is not None else ""
    found = windows.system.find(f"DriverDatabase\\DriverPackages\\{package}") if package else None
    return read_driver_version(found.get("Version")) if found is not None else None, package


def _bound_driver(windows: Installation) -> Version | None:
    """The newest DriverVersion among the VMBus devices that a boot on Hyper-V left behind."""
    key = windows.system.find(f"{windows.control_set}\\{_SYSTEM_CLASS}")
    versions = [
        Version.parse(device.text("DriverVersion"))
        for device in (key.subkeys() if key is not None else ())
        if device.text("MatchingDeviceId").upper() in _VMBUS_DEVICES
    ]
    return max((version for version in versions if version is not None), default=None)


def effective_start(windows: Installation, service: str) -> int | None:
    """A service's start, where StartOverride beats Start; None where there is no such service."""
    key = windows.system.find(f"{windows.control_set}\\Services\\{service}")
    if key is None:
        return None
    override = key.find("StartOverride")
    start = override.number("0") if override is not None else None
    return key.number("Start") if start is None else start


def _file_versions(windows: Installation) -> tuple[Version | None, Version | None]:
    versions: list[Version | None] = []
    for node in windows.volume.find_many(_FILES):
        try:
            versions.append(None if node is None else read_version(node.open()))
        except ImagetoolError:
            versions.append(None)  # a file that cannot be read only supports other evidence
    return versions[0], versions[1]
