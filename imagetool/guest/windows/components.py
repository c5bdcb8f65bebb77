"""Evidence about the integration components of a Windows guest.

Each piece is read and reported on its own: the version that the guest recorded, the driver that the
next boot loads, the one that the last boot bound, the packages of Component Based Servicing with
their payload in the image, start types of drivers and services, and the versions of three files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from itertools import chain
from typing import NamedTuple

from imagetool.disk.filetime import from_filetime
from imagetool.disk.gpt import EFI_SYSTEM_PARTITION
from imagetool.guest.windows.drivers import VMBUS_SYS, active_driver, file_version
from imagetool.guest.windows.installation import WindowsInstallation
from imagetool.guest.windows.payload import PayloadStatus, prefetch_drivers, read_payload
from imagetool.guest.windows.services import DATA_EXCHANGE, GuestService, read_services
from imagetool.package.identity import INTEGRATION_PACKAGE_NAMES, Identity, Version
from imagetool.registry import Key

INTEGRATION_VERSION_KEY = "Microsoft\\Virtual Machine\\Auto"
INTEGRATION_VERSION_NAME = "IntegrationServicesVersion"
_IN_BOX_PREFIXES = (
    "Microsoft-Hyper-V-Guest-",
    "Microsoft-Windows-HyperV-Guest-",
    "HyperV-Guest-",
)

_PACKAGES_KEY = "Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\Packages"
_SYSTEM_CLASS_KEY = "Control\\Class\\{4d36e97d-e325-11ce-bfc1-08002be10318}"
_VMBUS_HARDWARE_IDS = ("ACPI\\VMBUS", "ACPI\\MSFT1000")
VERSIONED_FILES = (
    VMBUS_SYS,
    "Windows\\System32\\drivers\\storvsc.sys",
    "Windows\\System32\\icsvc.dll",
)

# CurrentState of a package under Component Based Servicing
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


class ServicedPackage(NamedTuple):
    """A package that Component Based Servicing (CBS) lists in the registry."""

    identity: Identity
    state: int
    """CurrentState as a signed number; negative where an operation failed."""
    installed_at: datetime | None
    payload: PayloadStatus | None
    """Its files in the image; read for integration services packages only."""

    @property
    def state_name(self) -> str:
        """The state in words."""
        return "failed" if self.state < 0 else STATE_NAMES.get(self.state, f"0x{self.state:02x}")


class IntegrationComponents(NamedTuple):
    """Evidence about a guest's integration components, each field from a source of its own."""

    recorded: str | None
    """IntegrationServicesVersion as the guest wrote it; None where the value is absent."""
    recorded_at: datetime | None
    """The last write time of the key that holds `recorded`."""
    active_driver: Version | None
    """The version of the wvmbus driver that the next boot loads."""
    active_driver_package: str
    bound_driver: Version | None
    """DriverVersion of the VMBus device, written by the last boot on Hyper-V."""
    packages: tuple[ServicedPackage, ...]
    """Integration services packages, whatever their state."""
    in_box_packages: tuple[ServicedPackage, ...]
    """Packages of Windows itself that contain integration components."""
    services: tuple[GuestService, ...]
    """Boot drivers and guest services."""
    vmbus_sys: Version | None
    storvsc_sys: Version | None
    icsvc_dll: Version | None
    boots_by_uefi: bool = False
    """True if the disk has a GPT with an EFI system partition."""
    recorded_type: str = "REG_SZ"
    """The type of the value; of another than REG_SZ, which a guest writes, it is no version."""

    def service(self, name: str) -> GuestService | None:
        """The service or boot driver of that name; None where there is none."""
        return next((item for item in self.services if item.name == name), None)

    @property
    def data_exchange_start(self) -> int | None:
        """The effective start type of vmickvpexchange; None where there is no such service."""
        found = self.service(DATA_EXCHANGE)
        return found.effective_start if found is not None else None

    @property
    def recorded_version(self) -> Version | None:
        """`recorded` parsed; None where it is absent or no version."""
        if self.recorded is None or self.recorded_type != "REG_SZ":
            return None
        return Version.parse(self.recorded)

    @property
    def recorded_oddity(self) -> str | None:
        """Why `recorded` is no version that a guest writes, as a sentence; None where it is."""
        if self.recorded is None or self.recorded_version is not None:
            return None
        found = f"{INTEGRATION_VERSION_NAME} is {self.recorded_type} {self.recorded!r}"
        return f"{found}, and no version that a guest writes: it counts as none"


def read_integration_components(windows: WindowsInstallation) -> IntegrationComponents:
    """Read all the evidence. Raises Corrupt where a hive or manifest that it needs is damaged."""
    windows.image.prefetch(partial(prefetch_drivers, windows, INTEGRATION_PACKAGE_NAMES[0]))
    active, versions, bound, (packages, in_box), services, recorded = windows.image.gather(
        partial(active_driver, windows),
        partial(_file_versions, windows),
        partial(_bound_driver, windows),
        partial(_package_states, windows),
        partial(read_services, windows),
        partial(_recorded, windows),
    )
    vmbus, storvsc, icsvc = versions
    return IntegrationComponents(
        recorded=recorded[0],
        recorded_at=recorded[1],
        active_driver=active[0],
        active_driver_package=active[1],
        bound_driver=bound,
        packages=tuple(packages),
        in_box_packages=tuple(in_box),
        services=services,
        vmbus_sys=vmbus,
        storvsc_sys=storvsc,
        icsvc_dll=icsvc,
        boots_by_uefi=any(
            item.type == EFI_SYSTEM_PARTITION for item in windows.image.partition_table.partitions
        ),
        recorded_type=recorded[2],
    )


def _recorded(windows: WindowsInstallation) -> tuple[str | None, datetime | None, str]:
    """IntegrationServicesVersion, when its key was written, and its type."""
    key = windows.software.find(INTEGRATION_VERSION_KEY)
    value = key.value(INTEGRATION_VERSION_NAME) if key is not None else None
    if key is None or value is None:
        return None, None, ""
    return value.text(), key.last_written, value.type_name


def _file_versions(windows: WindowsInstallation) -> tuple[Version | None, ...]:
    nodes = windows.volume.find_many(VERSIONED_FILES)
    return windows.image.gather(*(partial(file_version, node) for node in nodes))


def _package_states(
    windows: WindowsInstallation,
) -> tuple[list[ServicedPackage], list[ServicedPackage]]:
    """Integration services packages, and those of the system itself."""
    return windows.image.gather(
        partial(read_packages, windows, INTEGRATION_PACKAGE_NAMES, with_payload=True),
        partial(_find_packages, windows, _IN_BOX_PREFIXES, with_payload=False),
    )


def read_packages(
    windows: WindowsInstallation, names: Iterable[str], *, with_payload: bool = False
) -> list[ServicedPackage]:
    """Return the CBS packages of these names, whatever their state, by ascending version."""
    return _find_packages(windows, [f"{name}~" for name in names], with_payload)


def _find_packages(
    windows: WindowsInstallation, prefixes: Sequence[str], with_payload: bool
) -> list[ServicedPackage]:
    key = windows.software.find(_PACKAGES_KEY)
    if key is None:
        return []
    lists = windows.image.gather(
        *(partial(_packages_below, windows, key, prefix, with_payload) for prefix in prefixes)
    )
    return sorted(chain.from_iterable(lists), key=lambda package: package.identity.version)


def _packages_below(
    windows: WindowsInstallation, key: Key, prefix: str, with_payload: bool
) -> list[ServicedPackage]:
    """The packages that the key lists and whose names begin with the prefix."""
    windows.image.prefetch(partial(key.prefetch_subkeys, prefix))
    found = windows.image.gather(
        *(partial(_package, windows, subkey, with_payload) for subkey in key.subkeys(prefix))
    )
    return [package for package in found if package is not None]


def _package(windows: WindowsInstallation, key: Key, with_payload: bool) -> ServicedPackage | None:
    identity = Identity.parse(key.name)
    if identity is None:
        return None
    number = key.number("CurrentState")
    if number is None and with_payload:
        windows.image.read.note(f"SOFTWARE: the state of {identity} is not known (CurrentState)")
    state = number or 0
    state -= (state & 0x80000000) << 1
    payload = read_payload(windows, identity) if with_payload else None
    return ServicedPackage(identity, state, _install_time(key), payload)


def _install_time(key: Key) -> datetime | None:
    high, low = key.number("InstallTimeHigh"), key.number("InstallTimeLow")
    return None if high is None or low is None else from_filetime(high << 32 | low)


def _bound_driver(windows: WindowsInstallation) -> Version | None:
    """The newest DriverVersion among the VMBus devices that a boot on Hyper-V left behind."""
    key = windows.system.find(f"{windows.control_set}\\{_SYSTEM_CLASS_KEY}")
    versions = [
        Version.parse(device.text("DriverVersion"))
        for device in (key.subkeys() if key is not None else ())
        if device.text("MatchingDeviceId").upper() in _VMBUS_HARDWARE_IDS
    ]
    return max((version for version in versions if version is not None), default=None)
