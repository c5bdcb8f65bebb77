"""The cmdlets of the module Hyper-V."""

from __future__ import annotations

import fnmatch
from pathlib import Path

from imagetool.lab.cmdlet import CmdletResult, ReportCallback
from imagetool.lab.cmdlets import (
    VIRTUALIZATION_EXCEPTION,
    Parameters,
    cmdlet,
    file_path,
    first,
    result,
)
from imagetool.lab.cmdlets.images import (
    check_not_held,
    describe_image,
    mount_image,
)
from imagetool.lab.cmdlets.storage import find_disk
from imagetool.lab.configuration import MachineOptions
from imagetool.lab.effects import effect, refusal
from imagetool.lab.emulated_host import EmulatedHost, MountedDisk

_HELD = refusal(
    "Get-VHD",
    "is refused for a file that a running virtual machine has",
    "Getting the mounted storage instance for the path '{path}' failed.\n"
    "The operation cannot be performed while the object is in use.",
    0x80070020,
    confirmed_by="terraform-provider-hyperv#121 and windows-powershell-docs#2024 (captured; they "
    "show no HRESULT, which is a guess)",
    category="ResourceBusy",
    error_id="ObjectInUse",
    exception=VIRTUALIZATION_EXCEPTION,
)
_NOT_MOUNTED = refusal(
    "Dismount-VHD",
    "is refused for a disk that is not mounted",
    "The virtual disk is not mounted.",
    0x80070057,
    category="InvalidArgument",
    error_id="InvalidParameter",
    exception=VIRTUALIZATION_EXCEPTION,
)
_NO_MACHINE = refusal(
    "Get-VM",
    "is refused for a name that no virtual machine has",
    'Hyper-V was unable to find a virtual machine with name "{name}".',
    confirmed_by="a minishift log (captured: exception, id and category)",
    category="InvalidArgument",
    error_id="InvalidParameter",
    exception=VIRTUALIZATION_EXCEPTION,
)
effect("Test-VHD", "is True for an image that can be mounted, else a failure")


def _describe(host: EmulatedHost, path: Path) -> CmdletResult:
    facts = describe_image(path)
    disk = host.find_mounted(path)
    number = None if disk is None or disk.is_late("number") else disk.number
    known: Parameters = {
        "ComputerName": "LAB",
        "Path": str(path),
        "VhdFormat": facts.format,
        "VhdType": facts.kind,
        "FileSize": facts.file_size,
        "Size": facts.size,
        "LogicalSectorSize": facts.logical_sector_size,
        "PhysicalSectorSize": facts.physical_sector_size,
        "BlockSize": facts.block_size,
        "ParentPath": facts.parent,
        "DiskIdentifier": facts.identifier,
        "Alignment": 1,
        "Attached": disk is not None,
        "DiskNumber": number,
        "Number": number,
    }
    return result("Get-VHD", known)


@cmdlet("Get-VHD")
def get_vhd(host: EmulatedHost, parameters: Parameters, _: ReportCallback) -> list[CmdletResult]:
    """Describe a virtual disk, mounted or not."""
    if "DiskNumber" in parameters:
        return [_describe(host, find_disk(host, parameters["DiskNumber"]).path)]
    path = file_path(parameters)
    if host.configuration.holder_of(path) is not None:
        raise _HELD(path=path)
    return [_describe(host, path)]


@cmdlet("Test-VHD")
def test_vhd(host: EmulatedHost, parameters: Parameters, _: ReportCallback) -> list[CmdletResult]:
    """Check that a virtual disk can be mounted."""
    path = file_path(parameters)
    check_not_held(host, path)
    _describe(host, path)
    return [CmdletResult("System.Boolean", {"value": True})]


@cmdlet("Mount-VHD")
def mount_vhd(host: EmulatedHost, parameters: Parameters, _: ReportCallback) -> list[CmdletResult]:
    """Mount a virtual disk."""
    path = file_path(parameters)
    mount_image(host, path, read_only=bool(parameters.get("ReadOnly")))
    return [_describe(host, path)] if parameters.get("Passthru") else []


@cmdlet("Dismount-VHD")
def dismount_vhd(
    host: EmulatedHost, parameters: Parameters, _: ReportCallback
) -> list[CmdletResult]:
    """Dismount a virtual disk."""
    if "DiskNumber" in parameters:
        disk: MountedDisk | None = find_disk(host, parameters["DiskNumber"])
    else:
        disk = host.find_mounted(file_path(parameters))
    if disk is None:
        raise _NOT_MOUNTED()
    host.dismount(disk)
    return []


# Virtual machines


def _machines(host: EmulatedHost, pattern: str) -> list[MachineOptions]:
    """Return the virtual machines whose names fit. Raises CmdletFailure for one that is not."""
    found = [
        item
        for item in host.configuration.machines
        if fnmatch.fnmatchcase(item.name.lower(), pattern.lower())
    ]
    if not found and not set("*?[") & set(pattern):
        raise _NO_MACHINE(name=pattern)
    return found


@cmdlet("Get-VM")
def get_vm(host: EmulatedHost, parameters: Parameters, _: ReportCallback) -> list[CmdletResult]:
    """List virtual machines: those of the host's configuration."""
    name = str(first(parameters.get("Name")) or "*")
    return [
        result("Get-VM", {"Name": item.name, "VMName": item.name, "State": item.state})
        for item in _machines(host, name)
    ]


@cmdlet("Get-VMHardDiskDrive")
def get_vm_hard_disk_drive(
    host: EmulatedHost, parameters: Parameters, _: ReportCallback
) -> list[CmdletResult]:
    """List the disks of virtual machines."""
    name = str(first(parameters.get("VMName")) or "*")
    return [
        result(
            "Get-VMHardDiskDrive",
            {
                "VMName": machine.name,
                "Path": disk,
                "ControllerType": "SCSI",
                "ControllerNumber": 0,
                "ControllerLocation": position,
                "ComputerName": "LAB",
            },
        )
        for machine in _machines(host, name)
        for position, disk in enumerate(machine.disks)
    ]
