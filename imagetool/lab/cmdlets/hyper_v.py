"""The cmdlets of the module Hyper-V."""

from __future__ import annotations

from pathlib import Path

from imagetool.disk import FileSource, open_disk
from imagetool.disk.vhdx import Vhdx
from imagetool.lab.cmdlet import CmdletFailure, CmdletResult, ReportCallback
from imagetool.lab.cmdlets import (
    VIRTUALIZATION_EXCEPTION,
    Parameters,
    cmdlet,
    file_path,
    result,
)
from imagetool.lab.cmdlets.storage import find_disk
from imagetool.lab.emulated_host import EmulatedHost, MountedDisk, in_use


def _describe(host: EmulatedHost, path: Path) -> CmdletResult:
    disk = host.find_mounted(path)
    with FileSource(path) as source:
        vhdx = open_disk(source)
        if not isinstance(vhdx, Vhdx):
            raise CmdletFailure("The file is not a virtual hard disk.", hresult=0xC03A0015)
        if vhdx.warnings:
            # A real host replays the log when it mounts; the emulated one writes no log.
            raise CmdletFailure(f"The log of '{path}' is not empty.", hresult=0xC03A0010)
        known: Parameters = {
            "ComputerName": "LAB",
            "Path": str(path),
            "VhdFormat": "VHDX",
            "VhdType": vhdx.kind.capitalize(),
            "FileSize": source.size,
            "Size": vhdx.size,
            "LogicalSectorSize": vhdx.metadata.logical_sector_size,
            "PhysicalSectorSize": vhdx.metadata.physical_sector_size,
            "BlockSize": vhdx.metadata.block_size,
            "ParentPath": "",
            "DiskIdentifier": vhdx.identifiers["VirtualDiskId"].upper(),
            "Alignment": 1,
            "Attached": disk is not None,
            "DiskNumber": None if disk is None else disk.number,
            "Number": None if disk is None else disk.number,
        }
    return result("Get-VHD", known)


@cmdlet("Get-VHD")
def get_vhd(host: EmulatedHost, parameters: Parameters, _: ReportCallback) -> list[CmdletResult]:
    """Describe a virtual disk, mounted or not."""
    if "DiskNumber" in parameters:
        return [_describe(host, find_disk(host, parameters["DiskNumber"]).path)]
    return [_describe(host, file_path(parameters))]


@cmdlet("Test-VHD")
def test_vhd(host: EmulatedHost, parameters: Parameters, _: ReportCallback) -> list[CmdletResult]:
    """Check that a virtual disk can be mounted."""
    _describe(host, file_path(parameters))
    return [CmdletResult("System.Boolean", {"value": True})]


@cmdlet("Mount-VHD")
def mount_vhd(host: EmulatedHost, parameters: Parameters, _: ReportCallback) -> list[CmdletResult]:
    """Mount a virtual disk."""
    path = file_path(parameters)
    if host.find_mounted(path) is not None:
        raise in_use(path)
    _describe(host, path)
    host.mount(path, read_only=bool(parameters.get("ReadOnly")))
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
        raise CmdletFailure(
            "The virtual disk is not mounted.", hresult=0x80070057, category="InvalidArgument",
            exception=VIRTUALIZATION_EXCEPTION, error_id="InvalidParameter",
        )  # fmt: skip
    host.dismount(disk)
    return []
