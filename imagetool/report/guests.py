"""Results of `inspect` and `verify` as text and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imagetool.report.text import format_size, format_table, format_time, safe

if TYPE_CHECKING:
    from imagetool.errors import ImagetoolError
    from imagetool.guest.image import BlockDevice, Image
    from imagetool.guest.inspection import Inspection
    from imagetool.guest.windows.components import IntegrationComponents, ServicedPackage
    from imagetool.guest.windows.facts import WindowsFacts
    from imagetool.guest.windows.services import GuestService
    from imagetool.verdict.verify import Verification

_START_TYPES = {0: "boot", 1: "system", 2: "automatic", 3: "on demand", 4: "disabled"}


def disk_data(image: Image) -> dict[str, object]:
    """An image's disk and block devices, for JSON."""
    return {
        "format": image.disk.format,
        "kind": image.disk.kind,
        "size": image.disk.size,
        "file_size": image.file_size,
        "sector_size": image.disk.sector_size,
        "identifiers": image.disk.identifiers,
        "chain": image.disk.chain,
        "partition_table": image.partition_table.scheme,
        "disk_identifier": image.partition_table.identifier,
        "volumes": [
            {
                "number": device.number,
                "offset": device.partition.offset if device.partition else 0,
                "size": device.source.size,
                "type": device.partition.type if device.partition else "",
                "type_name": device.partition.type_name if device.partition else "",
                "label": device.partition.label if device.partition else "",
                "identifier": device.partition.identifier if device.partition else "",
                "file_system": device.file_system,
                "logical_volume": device.name,
            }
            for device in image.block_devices
        ],
    }


def disk_text(image: Image) -> str:
    """An image's disk and block devices, as text."""
    disk = image.disk
    rows: list[Sequence[object]] = [
        (
            "disk",
            f"{disk.format}, {disk.kind}, {format_size(disk.size)} "
            f"in a file of {format_size(image.file_size)}",
        ),
        (
            "partitions",
            f"{image.partition_table.scheme.upper()} {image.partition_table.identifier}".strip(),
        ),
    ]
    volumes = [
        (
            f"  {device.number}",
            f"{device.file_system or '-':<9}",
            f"{format_size(device.source.size):>10}",
            _describe_device(device),
            device.partition.label if device.partition else "",
        )
        for device in image.block_devices
    ]
    return format_table(rows) + format_table(volumes)


def _describe_device(device: BlockDevice) -> str:
    """The kind of a block device, in words."""
    if device.partition is not None:
        return device.partition.type_name
    return f"logical volume {device.name}" if device.name else "the whole disk"


def facts_data(facts: WindowsFacts) -> dict[str, object]:
    """The facts of a Windows, for JSON."""
    hosted = facts.last_host
    return {
        "product": facts.product,
        "edition": facts.edition,
        "version": facts.version,
        "build": facts.version.build,
        "ubr": facts.version.revision,
        "architecture": facts.architecture,
        "computer_name": facts.computer_name,
        "image_state": facts.image_state,
        "generalised": facts.generalised,
        "last_host": None
        if hosted is None
        else {
            "host": hosted.host,
            "virtual_machine": hosted.virtual_machine,
            "at": hosted.reported_at,
        },
        "emulated": dict(facts.emulation_marks),
    }


def facts_rows(facts: WindowsFacts) -> list[Sequence[object]]:
    """The facts of a Windows, as table rows."""
    rows: list[Sequence[object]] = [
        ("system", f"{facts.product}, {facts.version}, {facts.architecture or 'unknown'}"),
        ("edition", facts.edition),
        ("computer", facts.computer_name),
        ("state", f"{facts.image_state}{' (generalised)' if facts.generalised else ''}"),
    ]
    if facts.last_host is not None:
        host = facts.last_host
        rows.append(
            (
                "last host",
                f"{host.host}, as {host.virtual_machine}, {format_time(host.reported_at)}",
            )
        )
    rows += [("emulated", f"{name} {text}") for name, text in facts.emulation_marks]
    return rows


def components_data(components: IntegrationComponents) -> dict[str, object]:
    """The evidence about integration components, for JSON."""
    return {
        "recorded": components.recorded,
        "recorded_at": components.recorded_at,
        "active_driver": components.active_driver,
        "active_driver_package": components.active_driver_package,
        "bound_driver": components.bound_driver,
        "packages": [_package_data(package) for package in components.packages],
        "in_box_packages": [_package_data(package) for package in components.in_box_packages],
        "services": [
            {
                "name": service.name,
                "start": service.start,
                "start_override": service.start_override,
                "effective_start": service.effective_start,
            }
            for service in components.services
        ],
        "vmbus_sys": components.vmbus_sys,
        "storvsc_sys": components.storvsc_sys,
        "icsvc_dll": components.icsvc_dll,
    }


def _package_data(package: ServicedPackage) -> dict[str, object]:
    payload = package.payload
    return {
        "identity": package.identity,
        "state": package.state,
        "state_name": package.state_name,
        "installed_at": package.installed_at,
        "manifest": payload.manifest if payload is not None else None,
        "catalog": payload.catalog if payload is not None else None,
        "missing": payload.missing if payload is not None else None,
    }


def components_rows(components: IntegrationComponents) -> list[Sequence[object]]:
    """The evidence about integration components, as table rows."""
    recorded = "nothing"
    if components.recorded is not None:
        recorded = f"{components.recorded}, key written {format_time(components.recorded_at)}"
    rows: list[Sequence[object]] = [
        ("recorded", recorded),
        (
            "active driver",
            f"{components.active_driver or 'none'}  {components.active_driver_package}",
        ),
        ("bound driver", components.bound_driver or "none"),
        ("vmbus.sys", components.vmbus_sys or "none"),
        ("storvsc.sys", components.storvsc_sys or "none"),
        ("icsvc.dll", components.icsvc_dll or "none"),
    ]
    rows += [
        ("services" if not index else "", f"{service.name:<18}  {_format_start(service)}")
        for index, service in enumerate(components.services)
    ]
    rows += [
        ("in-box" if not index else "", f"{package.identity} {package.state_name}")
        for index, package in enumerate(components.in_box_packages)
    ]
    for package in components.packages:
        when = f", {format_time(package.installed_at)}" if package.installed_at else ""
        rows.append(("package", f"{package.identity} {package.state_name}{when}"))
        if package.payload is not None:
            there = "complete" if package.payload.complete else "incomplete"
            rows.append(("", f"manifest, catalog and payload {there}"))
    return rows


def _format_start(service: GuestService) -> str:
    """A service's effective start type, with the override where there is one."""
    effective = service.effective_start
    text = "no start" if effective is None else str(_START_TYPES.get(effective, effective))
    if service.start_override is None or service.start_override == service.start:
        return text
    configured = "none" if service.start is None else _START_TYPES.get(service.start, service.start)
    return f"{text} (configured: {configured}; StartOverride {service.start_override})"


def inspection_data(found: Inspection) -> dict[str, object]:
    """A guest and its warnings, for JSON."""
    guest: dict[str, object] | None = None
    if found.windows is not None:
        guest = {"system": "Windows"} | facts_data(found.windows)
    elif found.linux is not None:
        guest = {
            "system": "Linux",
            "product": found.linux.name,
            "distribution": found.linux.distribution,
            "version": found.linux.version,
        }
    return {
        "guest": guest,
        "components": components_data(found.components) if found.components else None,
        "pending": None
        if found.pending is None
        else {"operations": found.pending.operations, "notes": found.pending.notes},
        "note": found.note,
        "warnings": found.warnings,
    }


def inspection_rows(found: Inspection) -> list[Sequence[object]]:
    """A guest and its warnings, as table rows."""
    rows: list[Sequence[object]] = []
    if found.windows is not None:
        rows += facts_rows(found.windows)
    elif found.linux is not None:
        rows.append(("system", f"Linux, {found.linux.name}"))
    else:
        rows.append(("guest", found.note))
    if found.components is not None:
        rows += components_rows(found.components)
    if found.pending is not None:
        rows.append(("pending", "yes" if found.pending.operations else "nothing"))
    return rows + [("warning", warning) for warning in found.warnings]


def verification_data(result: Verification) -> dict[str, object]:
    """A verdict with its evidence, for JSON."""
    verdict = result.verdict
    return {
        "image": result.image,
        "verdict": verdict.outcome.value,
        "holds": verdict.holds,
        "required": verdict.required,
        "required_because": verdict.required_because,
        "installed": verdict.installed,
        "confirmed": verdict.confirmed,
        "reasons": verdict.reasons,
        "present": verdict.present,
        "bound": verdict.bound,
        "recorded": verdict.recorded,
        "wanted": verdict.wanted,
        "package": result.package,
        "guest": facts_data(result.facts),
        "evidence": components_data(result.components),
        "warnings": result.warnings,
    }


def failure_data(image: str, error: ImagetoolError) -> dict[str, object]:
    """An image without a verdict, for JSON."""
    return {
        "image": image,
        "verdict": "unknown",
        "holds": False,
        "error": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


def verification_line(result: Verification) -> str:
    """A verdict in one line, with its reasons."""
    verdict = result.verdict
    holds = "holds" if verdict.holds else "fails"
    reasons = safe("; ".join(verdict.reasons))
    return (
        f"{safe(result.image)}: {verdict.outcome.value} ({verdict.required} {holds}): {reasons}\n"
    )


def failure_line(image: str, error: ImagetoolError) -> str:
    """An image without a verdict, in one line."""
    return f"{safe(image)}: unknown: {safe(error.message.removeprefix(f'{image}: '))}\n"


def verification_text(result: Verification) -> str:
    """A verdict in one line, with the reasons and versions below it."""
    verdict = result.verdict
    holds = "holds" if verdict.holds else "fails"
    lines = [f"{safe(result.image)}: {verdict.outcome.value} ({verdict.required} {holds})\n"]
    lines += [f"  {safe(reason)}\n" for reason in verdict.reasons]
    rows: list[Sequence[object]] = [
        ("present", verdict.present or "none"),
        ("bound", verdict.bound or "none"),
        ("recorded", verdict.recorded or "none"),
        ("wanted", f"{verdict.wanted or 'none'}{f'  {result.package}' if result.package else ''}"),
        ("required", f"{verdict.required}: {verdict.required_because}"),
    ]
    return "".join(lines) + format_table(rows, indent="  ")
