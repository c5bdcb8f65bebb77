"""Whether a Windows guest starts its integration components when it boots on Hyper-V.

Its devices are behind vmbus. A virtual machine that boots by UEFI has its disk behind storvsc as
well; one that does not boots from emulated IDE.
"""

from __future__ import annotations

from imagetool.guest.windows.components import INSTALLED, PERMANENT, IntegrationComponents
from imagetool.guest.windows.facts import WindowsFacts
from imagetool.guest.windows.services import BOOT_DRIVERS, SERVICE_BOOT_START


def boot_faults(facts: WindowsFacts, components: IntegrationComponents) -> tuple[str, ...]:
    """The reasons for which a driver that the boot needs does not start, each a sentence.

    A missing service is none in a guest without components: it has nothing that could start, and a
    package that is pending brings the service with the next boot.
    """
    found = []
    has_components = (
        facts.has_in_box_components
        or components.active_driver is not None
        or any(package.state in (INSTALLED, PERMANENT) for package in components.packages)
    )
    for name in ("vmbus", "storvsc") if components.boots_by_uefi else ("vmbus",):
        service = components.service(name)
        if service is None:
            if has_components:
                found.append(f"{name} does not start: there is no such driver service")
            continue
        if service.start != SERVICE_BOOT_START:
            start = "no Start" if service.start is None else f"Start is {service.start}"
            found.append(f"{name} does not start at boot: {start}, not {SERVICE_BOOT_START}")
        elif service.effective_start != SERVICE_BOOT_START:
            found.append(
                f"{name} does not start at boot: StartOverride for a Hyper-V machine is "
                f"{service.effective_start}"
            )
        if not service.file_size:
            missing = service.file_size is None
            state = "is not on the Windows volume" if missing else "has 0 bytes"
            found.append(f"{name} cannot start: {service.file} {state}")
        elif not service.is_program:
            found.append(f"{name} cannot start: {service.file} is no Windows program")
    return tuple(found)


def boot_warnings(components: IntegrationComponents) -> tuple[str, ...]:
    """What may hinder a boot driver: overrides of other machines, unusual keys, an old file."""
    by_machine: dict[str, list[str]] = {}
    for service in components.services:
        if service.name not in BOOT_DRIVERS or service.start != SERVICE_BOOT_START:
            continue
        for item in service.overrides:
            if item.start and not (item.machine is not None and item.machine.hyper_v):
                machine = (
                    f"on {item.machine.name}"
                    if item.machine is not None
                    else f"on a machine that is not known (number {item.number})"
                )
                by_machine.setdefault(machine, []).append(f"{service.name} ({item.start})")
    warnings = [text for service in components.services for text in service.oddities]
    bound, on_disk = components.bound_driver, components.vmbus_sys
    if bound is not None and on_disk is not None and on_disk < bound:
        warnings.append(f"vmbus.sys is {on_disk}, older than the driver {bound} of the last boot")
    warnings += (
        f"{', '.join(names)}: an override keeps them from starting at boot {machine}; a new "
        "virtual machine is another one, most likely"
        for machine, names in by_machine.items()
    )
    return tuple(warnings)
