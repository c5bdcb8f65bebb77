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
from imagetool.lab.disks.making import (
    compact_disk,
    convert_disk,
    default_block_size,
    make_child,
    make_disk,
)
from imagetool.lab.disks.shape import Shape
from imagetool.lab.effects import Refusal, effect, refusal
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
_EXISTS = refusal(
    "New-VHD",
    "is refused where there is a file of that name",
    "Failed to create the virtual hard disk.\nThe system failed to create '{path}': The file "
    "exists. (0x80070050).",
    0x80070050,
    confirmed_by="a captured error",
    exception=VIRTUALIZATION_EXCEPTION,
)
_CONVERSION_EXISTS = refusal(
    "Convert-VHD",
    "is refused where there is a file of that name",
    "Failed to convert the virtual disk.\nThe system failed to create '{path}': The file exists. "
    "(0x80070050).",
    0x80070050,
    exception=VIRTUALIZATION_EXCEPTION,
)
_CONVERSION_IN_USE = refusal(
    "Convert-VHD",
    "is refused for a disk that is mounted for writing, or that a running virtual machine has",
    "Failed to convert the virtual disk.\nThe process cannot access the file '{path}' because it "
    "is being used by another process. (0x80070020).",
    0x80070020,
    exception=VIRTUALIZATION_EXCEPTION,
)
_WRONG_NAME = refusal(
    "New-VHD",
    "is refused, as Convert-VHD, for a name that does not end in .vhd or .vhdx",
    "The file extension of '{path}' is not that of a virtual hard disk.",
    0x80070057,
    category="InvalidArgument",
    error_id="InvalidParameter",
    exception=VIRTUALIZATION_EXCEPTION,
)
_WRONG_SIZE = refusal(
    "New-VHD",
    "is refused for a disk of less than 3 MiB, or of no whole number of sectors",
    "Failed to create the virtual hard disk.\nThe size of '{path}' is not valid.",
    0x80070057,
    category="InvalidArgument",
    error_id="InvalidParameter",
    exception=VIRTUALIZATION_EXCEPTION,
)
_SMALLEST_DISK = 3 << 20
effect(
    "Convert-VHD",
    "gives the new disk an identifier of its own",
)
effect(
    "Convert-VHD",
    "writes a child and its parents as one disk, and leaves them as they were",
    confirmed_by="the vendor's documentation",
)
effect("Optimize-VHD", "takes blocks of zeros out of a dynamic disk that is not mounted")
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


# New files


def _new_file(parameters: Parameters, name: str, refused: Refusal) -> Path:
    """Return the path of a file that is to be made. Raises CmdletFailure where it exists."""
    path = Path(str(first(parameters.get(name))))
    if path.exists():
        raise refused(path=path)
    if path.suffix.lower() not in (".vhd", ".vhdx", ".avhd", ".avhdx"):
        raise _WRONG_NAME(path=path)
    return path


def _whole_number(parameters: Parameters, name: str, default: int = 0) -> int:
    value = parameters.get(name)
    return value if isinstance(value, int) and value > 0 else default


@cmdlet("New-VHD")
def new_vhd(host: EmulatedHost, parameters: Parameters, _: ReportCallback) -> list[CmdletResult]:
    """Make a virtual disk: dynamic, fixed, or the child of another."""
    path = _new_file(parameters, "Path", _EXISTS)
    block_size = _whole_number(parameters, "BlockSizeBytes")
    if parameters.get("Differencing") or parameters.get("ParentPath"):
        parent = file_path(parameters, "ParentPath")
        make_child(path, parent, block_size)
    else:
        kind = "fixed" if parameters.get("Fixed") else "dynamic"
        size = _whole_number(parameters, "SizeBytes")
        sector_size = _whole_number(parameters, "LogicalSectorSizeBytes", 512)
        if size < _SMALLEST_DISK or size % sector_size:
            raise _WRONG_SIZE(path=path)
        blocks = block_size or default_block_size(path, kind)
        make_disk(path, Shape(kind, size, blocks, sector_size))
    return [_describe(host, path.resolve())]


@cmdlet("Convert-VHD")
def convert_vhd(
    host: EmulatedHost, parameters: Parameters, _: ReportCallback
) -> list[CmdletResult]:
    """Copy a virtual disk with its parents into a new one; both stay as they are."""
    source = file_path(parameters)
    target = _new_file(parameters, "DestinationPath", _CONVERSION_EXISTS)
    disk = host.find_mounted(source)
    if host.configuration.holder_of(source) or (disk is not None and disk.exclusive):
        raise _CONVERSION_IN_USE(path=source)
    kind = str(parameters.get("VHDType") or "").lower()
    block_size = _whole_number(parameters, "BlockSizeBytes")
    convert_disk(source, target, kind if kind in ("fixed", "dynamic") else "", block_size)
    return [_describe(host, target.resolve())] if parameters.get("Passthru") else []


@cmdlet("Optimize-VHD")
def optimize_vhd(
    host: EmulatedHost, parameters: Parameters, _: ReportCallback
) -> list[CmdletResult]:
    """Write a dynamic disk anew without blocks of zeros."""
    path = file_path(parameters)
    check_not_held(host, path)
    compact_disk(path)
    return [_describe(host, path)] if parameters.get("Passthru") else []


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
