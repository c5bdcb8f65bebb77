"""The Hyper-V services and boot drivers of a Windows guest, and what starts them.

A value N of the subkey StartOverride takes precedence over Start on one machine. By inference, no
document says so, N is the Id of a subkey of HardwareConfig, which names that machine: Windows sets
it for boot drivers that the machine did not need, and on any other machine, a new virtual one
included, Start counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from imagetool.guest.windows.installation import WindowsInstallation
from imagetool.guest.windows.version_resource import is_windows_program
from imagetool.registry import Key

BOOT_DRIVER_FILES = {"vmbus": "vmbus.sys", "storvsc": "storvsc.sys", "storflt": "vmstorfl.sys"}
BOOT_DRIVERS = tuple(BOOT_DRIVER_FILES)
GUEST_SERVICES = (
    "vmicheartbeat",
    "vmickvpexchange",
    "vmicshutdown",
    "vmictimesync",
    "vmicvss",
    "vmicguestinterface",
    "vmicrdv",
    "vmicvmsession",
)
DATA_EXCHANGE = "vmickvpexchange"

SERVICE_BOOT_START, SERVICE_DISABLED = 0, 4  # winnt.h
_KERNEL_DRIVER = 1


_HYPER_V = ("microsoft corporation", "virtual machine")
"""SystemManufacturer and SystemProductName of a virtual machine, in lower case."""
_HYPER_V_BIOS = "VRTUAL"
"""The OEM identifier of its ACPI tables, with which SystemBiosVersion begins."""
_WINDOWS_DIRECTORIES = ("\\systemroot\\", "%systemroot%\\", "%windir%\\")
"""The beginnings of a path that mean the directory Windows, in lower case."""


class Machine(NamedTuple):
    """A machine that the guest has run on, from its HardwareConfig."""

    name: str
    """Manufacturer and product; without them the BIOS, or the key's name."""
    hyper_v: bool
    """True for a virtual machine of Hyper-V."""


class StartOverride(NamedTuple):
    """A start type that takes precedence on one machine."""

    number: str
    """The name of the value: the Id of a machine."""
    start: int
    machine: Machine | None
    """None where no configuration has that number."""


class GuestService(NamedTuple):
    """A service or driver: its Start value, its overrides, and a boot driver's file."""

    name: str
    start: int | None
    overrides: tuple[StartOverride, ...] = ()
    file: str = ""
    """The path of a boot driver's file on the Windows volume; ImagePath as it stands where that
    leads elsewhere; empty for services, whose files are not looked for."""
    file_size: int | None = None
    """The size of that file in bytes; None where it is not on the Windows volume."""
    is_program: bool = True
    """False where that file is there, and does not begin as a Windows program does."""
    oddities: tuple[str, ...] = ()
    """What is unusual about a boot driver's key, each a sentence; it decides no verdict."""

    @property
    def start_override(self) -> int | None:
        """The first override, whichever machine it is for; None where there is none."""
        return self.overrides[0].start if self.overrides else None

    @property
    def effective_start(self) -> int | None:
        """The start type on Hyper-V: 0 boot, 1 system, 2 automatic, 3 on demand, 4 disabled.

        An override of a Hyper-V machine that prevents a start counts, one of another machine not.
        """
        for item in self.overrides:
            if item.machine is not None and item.machine.hyper_v and item.start:
                return item.start
        return self.start


def read_services(windows: WindowsInstallation) -> tuple[GuestService, ...]:
    """Read the boot drivers and guest services that exist, in the order of the constants above."""
    services = windows.system.find(f"{windows.control_set}\\Services")
    if services is None:
        return ()
    machines, *found = windows.image.gather(
        partial(_read_machines, windows),
        *(partial(_read_service, windows, services, name) for name in BOOT_DRIVERS),
        *(partial(_read_service, windows, services, name) for name in GUEST_SERVICES),
    )
    assert isinstance(machines, dict)
    return tuple(
        item._replace(
            overrides=tuple(
                override._replace(machine=machines.get(override.number))
                for override in item.overrides
            )
        )
        for item in found
        if isinstance(item, GuestService)
    )


def _read_machines(windows: WindowsInstallation) -> dict[str, Machine]:
    """The machines that the guest has run on, by their Id."""
    configurations = windows.system.find("HardwareConfig")
    found: dict[str, Machine] = {}
    for key in configurations.subkeys() if configurations is not None else ():
        number = key.number("Id")
        if number is None:
            continue
        machine = _machine(key)
        known = found.get(str(number))
        if known is None or not known.hyper_v:
            found[str(number)] = machine
    return found


def _machine(key: Key) -> Machine:
    """A machine by its names; Windows 8.1 records none, only the version of the BIOS."""
    parts = [key.text("SystemManufacturer").strip(), key.text("SystemProductName").strip()]
    if any(parts):
        hyper_v = tuple(part.lower() for part in parts) == _HYPER_V
        return Machine(" ".join(filter(None, parts)), hyper_v)
    versions = key.get("SystemBiosVersion")
    bios = versions[0].split() if isinstance(versions, list) and versions else []
    name = f"a machine with the BIOS {' '.join(bios)}" if bios else key.name
    return Machine(name, bios[:1] == [_HYPER_V_BIOS])


def _read_service(windows: WindowsInstallation, services: Key, name: str) -> GuestService | None:
    key = services.subkey(name)
    if key is None:
        return None
    overrides = key.subkey("StartOverride")
    found = tuple(
        StartOverride(value.name, value.data, None)
        for value in (overrides.values() if overrides is not None else ())
        if isinstance(value.data, int)
    )
    if name not in BOOT_DRIVER_FILES:
        return GuestService(name, key.number("Start"), found)
    image_path = key.text("ImagePath")
    path = driver_path(image_path, name)
    node = windows.volume.find(path) if path else None
    size, is_program = None, True
    if node is not None and not node.is_directory:
        size, is_program = node.size, is_windows_program(node.open())
    return GuestService(
        name,
        key.number("Start"),
        found,
        path or image_path,
        size,
        is_program,
        tuple(_oddities(key, overrides, name, path or image_path)),
    )


def _oddities(key: Key, overrides: Key | None, name: str, path: str) -> Iterator[str]:
    for value in overrides.values() if overrides is not None else ():
        if not isinstance(value.data, int):
            yield f"{name}: StartOverride {value.name} is no number ({value.type_name})"
    kind = key.number("Type")
    if kind != _KERNEL_DRIVER:
        yield f"{name}: its Type is {kind}, and that of a kernel driver {_KERNEL_DRIVER}"
    if key.number("DeleteFlag"):
        yield f"{name}: the service is marked for deletion (DeleteFlag)"
    file = BOOT_DRIVER_FILES[name]
    if path.lower() != f"windows\\system32\\drivers\\{file}":
        yield f"{name}: its ImagePath leads to {path}, and the driver is {file}"


def driver_path(image_path: str, name: str) -> str:
    """Return the path on the Windows volume that ImagePath leads to; "" if on another drive.

    Without ImagePath a driver is System32\\drivers\\NAME.sys (CreateService, "lpBinaryPathName").
    """
    text = image_path.strip().strip('"').replace("/", "\\")
    if not text:
        return f"Windows\\System32\\drivers\\{name}.sys"
    for beginning in _WINDOWS_DIRECTORIES:
        if text.lower().startswith(beginning):
            return f"Windows\\{text[len(beginning) :]}"
    drive, colon, path = text.removeprefix("\\??\\").partition(":\\")
    if colon and len(drive) == 1 and drive.isascii() and drive.isalpha():
        return path if drive in "cC" else ""
    return "" if text.startswith("\\") else f"Windows\\{text}"
