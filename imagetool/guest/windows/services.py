"""The Hyper-V services and boot drivers of a Windows guest, with their effective start types.

The value 0 of the subkey StartOverride takes precedence over Start. Windows sets it for boot
drivers that the machine it last ran on did not need; such an image does not find its disk on a
Hyper-V SCSI controller.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from imagetool.guest.windows.installation import WindowsInstallation
from imagetool.registry import Key

BOOT_DRIVERS = ("vmbus", "storvsc", "storflt")
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


class GuestService(NamedTuple):
    """A service or driver: its Start value, and the StartOverride that takes precedence."""

    name: str
    start: int | None
    start_override: int | None

    @property
    def effective_start(self) -> int | None:
        """The start type that counts: 0 boot, 1 system, 2 automatic, 3 on demand, 4 disabled."""
        return self.start if self.start_override is None else self.start_override

    @property
    def boot_start_overridden(self) -> bool:
        """True if Start says boot and StartOverride prevents it."""
        return self.start == SERVICE_BOOT_START and self.effective_start != SERVICE_BOOT_START


def read_services(windows: WindowsInstallation) -> tuple[GuestService, ...]:
    """Read the boot drivers and guest services that exist, in the order of the constants above."""
    services = windows.system.find(f"{windows.control_set}\\Services")
    if services is None:
        return ()
    names = (*BOOT_DRIVERS, *GUEST_SERVICES)
    found = windows.image.gather(*(partial(_service, services, name) for name in names))
    return tuple(service for service in found if service is not None)


def _service(services: Key, name: str) -> GuestService | None:
    key = services.subkey(name)
    if key is None:
        return None
    override = key.subkey("StartOverride")
    number = override.number("0") if override is not None else None
    return GuestService(name, key.number("Start"), number)
