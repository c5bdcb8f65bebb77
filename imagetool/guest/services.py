"""The services and boot drivers of Hyper-V in a Windows guest, and how they really start.

What counts is the effective start: a subkey StartOverride with a value 0 beats Start. Windows sets
it for boot drivers that the machine it last ran on did not need; such an image does not find its
disk on a Hyper-V SCSI controller.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from imagetool.guest.installation import WindowsInstallation
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

SERVICE_BOOT_START, SERVICE_AUTO_START, SERVICE_DEMAND_START, SERVICE_DISABLED = 0, 2, 3, 4


class GuestService(NamedTuple):
    """A service or driver: Start as configured, and what overrides it."""

    name: str
    start: int | None
    start_override: int | None

    @property
    def effective_start(self) -> int | None:
        """How it starts: 0 boot, 1 system, 2 automatic, 3 on demand, 4 disabled."""
        return self.start if self.start_override is None else self.start_override

    @property
    def boot_start_overridden(self) -> bool:
        """Whether it is configured to start at boot, and will not."""
        return self.start == SERVICE_BOOT_START and self.effective_start != SERVICE_BOOT_START


def read_services(windows: WindowsInstallation) -> tuple[GuestService, ...]:
    """The boot drivers and guest services that the next start knows, in the order above."""
    services = windows.system.find(f"{windows.control_set}\\Services")
    if services is None:
        return ()
    names = (*BOOT_DRIVERS, *GUEST_SERVICES)
    windows.image.ahead(partial(_service, services, name) for name in names)
    found = [_service(services, name) for name in names]
    return tuple(service for service in found if service is not None)


def _service(services: Key, name: str) -> GuestService | None:
    key = services.subkey(name)
    if key is None:
        return None
    override = key.subkey("StartOverride")
    number = override.number("0") if override is not None else None
    return GuestService(name, key.number("Start"), number)
