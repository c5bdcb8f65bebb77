"""Trees of the results of `guest`: disk maps and inspections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagetool.report.data import Document, Tree, builds, error_tree

if TYPE_CHECKING:
    from imagetool.guest.disk_map import DiskDescription, DiskMap
    from imagetool.guest.inspection import Inspection, InspectionReport, NoInspection
    from imagetool.guest.windows.components import IntegrationComponents, ServicedPackage
    from imagetool.guest.windows.facts import WindowsFacts


@builds("guest.disk_map.DiskMap")
def _disk_map(result: DiskMap) -> Document:
    tree: Tree = {
        "image": result.image,
        "disk": _disk(result.disk),
        "allocated": result.allocated,
        "allocated_ranges": result.allocated_ranges,
        "warnings": result.warnings,
    }
    return Document("disk-map", tree)


def _disk(disk: DiskDescription) -> Tree:
    return {
        "format": disk.format,
        "kind": disk.kind,
        "size": disk.size,
        "file_size": disk.file_size,
        "sector_size": disk.sector_size,
        "identifiers": disk.identifiers,
        "chain": disk.chain,
        "partition_table": disk.partition_table,
        "disk_identifier": disk.disk_identifier,
        "volumes": [
            {
                "number": volume.number,
                "offset": volume.offset,
                "size": volume.size,
                "type": volume.type,
                "type_name": volume.type_name,
                "label": volume.label,
                "identifier": volume.identifier,
                "file_system": volume.file_system,
                "logical_volume": volume.logical_volume,
            }
            for volume in disk.volumes
        ],
    }


@builds("guest.inspection.Inspection")
def _one_inspection(result: Inspection) -> Document:
    return Document("inspect", {"images": [_inspection(result)]})


@builds("guest.inspection.InspectionReport")
def _inspection_report(result: InspectionReport) -> Document:
    images: Tree = {"images": [_inspection(item) for item in result.images]}
    return Document("inspect", images | error_tree(result.error))


def _inspection(found: Inspection | NoInspection) -> Tree:
    from imagetool.guest.inspection import NoInspection

    if isinstance(found, NoInspection):
        return {
            "image": found.image,
            "error": found.error.message,
            "hint": found.error.hint,
            "exit_code": found.error.exit_code,
        }
    guest: Tree | None = None
    if found.windows is not None:
        guest = {"system": "Windows"} | facts_tree(found.windows)
    elif found.linux is not None:
        guest = {
            "system": "Linux",
            "product": found.linux.name,
            "distribution": found.linux.distribution,
            "version": found.linux.version,
        }
    pending = found.pending
    return {
        "image": found.image,
        "disk": _disk(found.disk),
        "guest": guest,
        "components": components_tree(found.components) if found.components else None,
        "pending": {"operations": pending.operations, "notes": pending.notes} if pending else None,
        "note": found.note,
        "warnings": found.warnings,
    }


def facts_tree(facts: WindowsFacts) -> Tree:
    """The facts of a Windows."""
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


def components_tree(components: IntegrationComponents) -> Tree:
    """The evidence about integration components."""
    return {
        "recorded": components.recorded,
        "recorded_at": components.recorded_at,
        "active_driver": components.active_driver,
        "active_driver_package": components.active_driver_package,
        "bound_driver": components.bound_driver,
        "packages": [_serviced_package(package) for package in components.packages],
        "in_box_packages": [_serviced_package(item) for item in components.in_box_packages],
        "services": [
            {
                "name": service.name,
                "start": service.start,
                "start_override": service.start_override,
                "effective_start": service.effective_start,
                "overrides": [
                    {
                        "number": item.number,
                        "start": item.start,
                        "machine": item.machine.name if item.machine is not None else None,
                        "hyper_v": item.machine is not None and item.machine.hyper_v,
                    }
                    for item in service.overrides
                ],
                "file": service.file or None,
                "file_size": service.file_size,
            }
            for service in components.services
        ],
        "data_exchange_start": components.data_exchange_start,
        "vmbus_sys": components.vmbus_sys,
        "storvsc_sys": components.storvsc_sys,
        "icsvc_dll": components.icsvc_dll,
        "boots_by_uefi": components.boots_by_uefi,
    }


def _serviced_package(package: ServicedPackage) -> Tree:
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
