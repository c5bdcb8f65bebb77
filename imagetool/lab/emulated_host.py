"""The state of the emulated host, its mounted disks, and its cmdlets.

Results carry the types and property names of the real ones, failures their HRESULTs and error ids.
A disk that is mounted comes up offline and read-only, as under the SAN policy of a careful host, so
that a forgotten step fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from imagetool.disk import FileSource, open_disk, read_partitions
from imagetool.disk.vhdx import Vhdx
from imagetool.errors import ImagetoolError
from imagetool.lab import packages
from imagetool.lab.cmdlet import CmdletFailure, CmdletResult, ReportCallback
from imagetool.lab.cmdlet_facts import result_type

_VIRTUALIZATION = "Microsoft.HyperV.PowerShell.VirtualizationException"
_CIM = "Microsoft.Management.Infrastructure.CimException"
_PACKAGE_STATE_NAMES = {
    0x00: "NotPresent",
    0x05: "UninstallPending",
    0x40: "Staged",
    0x50: "Superseded",
    0x60: "InstallPending",
    0x65: "PartiallyInstalled",
    0x70: "Installed",
    0x80: "Installed",
}


@dataclass(slots=True)
class MountedDisk:
    """A disk that is mounted."""

    number: int
    path: Path
    offline: bool = True
    read_only: bool = True
    access_paths: dict[int, list[str]] = field(default_factory=dict)
    """Directories by partition number."""


class EmulatedHost:
    """A Hyper-V host in memory. `faults` maps the names of cmdlets that fail to their failures."""

    def __init__(self, faults: Mapping[str, CmdletFailure] | None = None) -> None:
        self.disks: dict[int, MountedDisk] = {}
        self._faults = dict(faults or {})
        self._cmdlets: dict[
            str, Callable[[dict[str, object], ReportCallback], list[CmdletResult]]
        ] = {
            "Get-VHD": self._get_vhd,
            "Mount-VHD": self._mount_vhd,
            "Dismount-VHD": self._dismount_vhd,
            "Test-VHD": self._test_vhd,
            "Get-Disk": self._get_disk,
            "Set-Disk": self._set_disk,
            "Get-Partition": self._get_partition,
            "Add-PartitionAccessPath": self._add_access_path,
            "Remove-PartitionAccessPath": self._remove_access_path,
            "Add-WindowsPackage": self._add_windows_package,
            "Get-WindowsPackage": self._get_windows_package,
        }

    def call(
        self, cmdlet: str, parameters: dict[str, object], report: ReportCallback
    ) -> list[CmdletResult]:
        """Run a cmdlet whose parameters are bound. Raises CmdletFailure."""
        fault = self._faults.get(cmdlet)
        if fault is not None:
            raise fault
        try:
            return self._cmdlets[cmdlet](parameters, report)
        except ImagetoolError as error:
            raise CmdletFailure(error.message, hresult=0x80070570) from None

    # Virtual disks

    def _find_mounted(self, path: Path) -> MountedDisk | None:
        return next((disk for disk in self.disks.values() if disk.path == path), None)

    @staticmethod
    def _image_path(parameters: dict[str, object]) -> Path:
        value = parameters.get("Path")
        text = value[0] if isinstance(value, list) and value else value
        path = Path(str(text))
        if not path.is_file():
            raise CmdletFailure(
                f"'{path}' was not found.", hresult=0x80070002, exception=_VIRTUALIZATION,
                category="ObjectNotFound", error_id="ObjectNotFound",
            )  # fmt: skip
        return path.resolve()

    def _describe_vhd(self, path: Path) -> CmdletResult:
        disk = self._find_mounted(path)
        with FileSource(path) as source:
            vhdx = open_disk(source)
            if not isinstance(vhdx, Vhdx):
                raise CmdletFailure("The file is not a virtual hard disk.", hresult=0xC03A0015)
            if vhdx.warnings:
                # A real host replays the log when it mounts; the emulated one writes no log.
                raise CmdletFailure(f"The log of '{path}' is not empty.", hresult=0xC03A0010)
            known: dict[str, object] = {
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
        return _cmdlet_result("Get-VHD", known)

    def _get_vhd(self, parameters: dict[str, object], report: ReportCallback) -> list[CmdletResult]:
        if "DiskNumber" in parameters:
            return [self._describe_vhd(self._find_disk(parameters["DiskNumber"]).path)]
        return [self._describe_vhd(self._image_path(parameters))]

    def _test_vhd(
        self, parameters: dict[str, object], report: ReportCallback
    ) -> list[CmdletResult]:
        self._describe_vhd(self._image_path(parameters))
        return [CmdletResult("System.Boolean", {"value": True})]

    def _mount_vhd(
        self, parameters: dict[str, object], report: ReportCallback
    ) -> list[CmdletResult]:
        path = self._image_path(parameters)
        if self._find_mounted(path) is not None:
            raise CmdletFailure(
                f"Failed to mount the virtual disk.\nThe system failed to mount '{path}'.",
                hresult=0x80070020, category="ResourceBusy", error_id="ObjectInUse",
                exception=_VIRTUALIZATION,
            )  # fmt: skip
        self._describe_vhd(path)
        number = next(n for n in range(1, 10_000) if n not in self.disks)
        read_only = bool(parameters.get("ReadOnly"))
        self.disks[number] = MountedDisk(number, path, read_only=True, offline=not read_only)
        return [self._describe_vhd(path)] if parameters.get("Passthru") else []

    def _dismount_vhd(
        self, parameters: dict[str, object], report: ReportCallback
    ) -> list[CmdletResult]:
        if "DiskNumber" in parameters:
            disk: MountedDisk | None = self._find_disk(parameters["DiskNumber"])
        else:
            disk = self._find_mounted(self._image_path(parameters))
        if disk is None:
            raise CmdletFailure(
                "The virtual disk is not mounted.", hresult=0x80070057, exception=_VIRTUALIZATION,
                category="InvalidArgument", error_id="InvalidParameter",
            )  # fmt: skip
        del self.disks[disk.number]
        return []

    # Disks and partitions

    def _find_disk(self, number: object) -> MountedDisk:
        value = number[0] if isinstance(number, list) and number else number
        disk = self.disks.get(value) if isinstance(value, int) else None
        if disk is None:
            raise CmdletFailure(
                f"No MSFT_Disk objects found with property 'Number' equal to '{value}'.  Verify "
                "the value of the property and retry.",
                hresult=0x80131500, category="ObjectNotFound",
                error_id="CmdletizationQuery_NotFound_Number",
                exception="Microsoft.PowerShell.Cmdletization.Cim.CimJobException",
            )  # fmt: skip
        return disk

    def _get_disk(
        self, parameters: dict[str, object], report: ReportCallback
    ) -> list[CmdletResult]:
        asked = "Number" in parameters
        chosen = [self._find_disk(parameters["Number"])] if asked else list(self.disks.values())
        results = []
        for disk in chosen:
            with FileSource(disk.path) as source:
                opened = open_disk(source)
                table = read_partitions(opened)
            known: dict[str, object] = {
                "DiskNumber": disk.number,
                "Number": disk.number,
                "PartitionStyle": {"gpt": "GPT", "mbr": "MBR"}.get(table.scheme, "RAW"),
                "OperationalStatus": "Offline" if disk.offline else "Online",
                "HealthStatus": "Healthy",
                "BusType": "File Backed Virtual",
                "IsOffline": disk.offline,
                "IsReadOnly": disk.read_only,
                "OfflineReason": "Policy" if disk.offline else None,
                "Size": opened.size,
                "Guid": f"{{{table.identifier}}}" if table.scheme == "gpt" else None,
                "Location": str(disk.path),
                "NumberOfPartitions": len(table.partitions),
            }
            results.append(_cmdlet_result("Get-Disk", known))
        return results

    def _set_disk(
        self, parameters: dict[str, object], report: ReportCallback
    ) -> list[CmdletResult]:
        disk = self._find_disk(parameters.get("Number"))
        if "IsOffline" in parameters:
            disk.offline = bool(parameters["IsOffline"])
        if "IsReadOnly" in parameters:
            disk.read_only = bool(parameters["IsReadOnly"])
        return []

    def _get_partition(
        self, parameters: dict[str, object], report: ReportCallback
    ) -> list[CmdletResult]:
        disk = self._find_disk(parameters.get("DiskNumber"))
        with FileSource(disk.path) as source:
            table = read_partitions(open_disk(source))
        results = []
        for partition in table.partitions:
            paths = [f"{path}/" for path in disk.access_paths.get(partition.number, ())]
            known: dict[str, object] = {
                "DiskNumber": disk.number,
                "PartitionNumber": partition.number,
                "Offset": partition.offset,
                "Size": partition.size,
                "Type": partition.type_name or "Unknown",
                "GptType": f"{{{partition.type}}}" if table.scheme == "gpt" else None,
                "Guid": f"{{{partition.identifier}}}" if partition.identifier else None,
                "AccessPaths": [*paths, f"\\\\?\\Volume{{{partition.identifier}}}\\"],
                "IsOffline": disk.offline,
                "IsReadOnly": disk.read_only,
                "OperationalStatus": "Offline" if disk.offline else "Online",
            }
            results.append(_cmdlet_result("Get-Partition", known))
        return results

    def _parse_access_path(self, parameters: dict[str, object]) -> tuple[MountedDisk, int, Path]:
        disk = self._find_disk(parameters.get("DiskNumber"))
        value = parameters.get("PartitionNumber")
        number = value[0] if isinstance(value, list) and value else value
        if not isinstance(number, int):
            raise _invalid_parameter()
        return disk, number, Path(str(parameters.get("AccessPath"))).resolve()

    def _add_access_path(
        self, parameters: dict[str, object], report: ReportCallback
    ) -> list[CmdletResult]:
        disk, number, path = self._parse_access_path(parameters)
        if disk.offline or not path.is_dir() or any(path.iterdir()):
            raise _invalid_parameter()
        disk.access_paths.setdefault(number, []).append(str(path))
        return []

    def _remove_access_path(
        self, parameters: dict[str, object], report: ReportCallback
    ) -> list[CmdletResult]:
        disk, number, path = self._parse_access_path(parameters)
        known = disk.access_paths.get(number, [])
        if str(path) not in known:
            raise _invalid_parameter()
        known.remove(str(path))
        return []

    # Packages

    def _find_mounted_image(self, parameters: dict[str, object]) -> tuple[MountedDisk, int]:
        path = str(Path(str(parameters.get("Path"))).resolve())
        for disk in self.disks.values():
            for number, paths in disk.access_paths.items():
                if path in paths:
                    return disk, number
        raise CmdletFailure(
            f"The specified path {path} holds no Windows installation.",
            hresult=0x80070003,
            error_id="Microsoft.Dism.Commands.AddWindowsPackageCommand",
        )

    def _add_windows_package(
        self, parameters: dict[str, object], report: ReportCallback
    ) -> list[CmdletResult]:
        disk, number = self._find_mounted_image(parameters)
        if disk.read_only:
            raise CmdletFailure(
                "You do not have permissions to mount and modify this image.", hresult=0xC1510111
            )
        cabinet = Path(str(parameters.get("PackagePath")))
        packages.add_package(disk.path, number, cabinet, report)
        known: dict[str, object] = {"Path": parameters.get("Path"), "Online": False}
        return [_cmdlet_result("Add-WindowsPackage", known | {"RestartNeeded": True})]

    def _get_windows_package(
        self, parameters: dict[str, object], report: ReportCallback
    ) -> list[CmdletResult]:
        disk, number = self._find_mounted_image(parameters)
        wanted = str(parameters.get("PackageName") or "").lower()
        results = []
        for identity, state, installed in packages.list_packages(disk.path, number):
            if wanted and str(identity).lower() != wanted:
                continue
            known: dict[str, object] = {
                "PackageName": str(identity),
                "PackageState": _PACKAGE_STATE_NAMES.get(state, "NotPresent"),
                "ReleaseType": "Update",
                "InstallTime": installed if isinstance(installed, datetime) else None,
            }
            results.append(_cmdlet_result("Get-WindowsPackage", known))
        return results

    def close(self) -> None:
        """Dismount every disk."""
        self.disks.clear()


def _invalid_parameter() -> CmdletFailure:
    return CmdletFailure(
        "Invalid Parameter", hresult=0x80131500, category="InvalidArgument",
        error_id="StorageWMI 5", exception=_CIM,
    )  # fmt: skip


def _cmdlet_result(cmdlet: str, known: dict[str, object]) -> CmdletResult:
    """Return a result with every property of the real one, null where the value is unknown."""
    kind, names = result_type(cmdlet)
    return CmdletResult(kind, {name: known.get(name) for name in dict.fromkeys([*names, *known])})
