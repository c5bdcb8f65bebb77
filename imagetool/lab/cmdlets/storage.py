"""The cmdlets of the module Storage."""

from __future__ import annotations

from pathlib import Path

from imagetool.disk import FileSource, open_disk, read_partitions
from imagetool.lab.cmdlet import CmdletFailure, CmdletResult, ReportCallback
from imagetool.lab.cmdlets import Parameters, cmdlet, first, result
from imagetool.lab.emulated_host import EmulatedHost, MountedDisk


def find_disk(host: EmulatedHost, number: object) -> MountedDisk:
    """Return the disk of that number. Raises CmdletFailure."""
    value = first(number)
    disk = host.disks.get(value) if isinstance(value, int) else None
    if disk is None:
        raise CmdletFailure(
            f"No MSFT_Disk objects found with property 'Number' equal to '{value}'.  Verify "
            "the value of the property and retry.",
            hresult=0x80131500, category="ObjectNotFound",
            error_id="CmdletizationQuery_NotFound_Number",
            exception="Microsoft.PowerShell.Cmdletization.Cim.CimJobException",
        )  # fmt: skip
    return disk


@cmdlet("Get-Disk")
def get_disk(host: EmulatedHost, parameters: Parameters, _: ReportCallback) -> list[CmdletResult]:
    """Describe one disk, or all."""
    asked = "Number" in parameters
    chosen = [find_disk(host, parameters["Number"])] if asked else list(host.disks.values())
    return [_describe(host, disk) for disk in chosen]


def _describe(host: EmulatedHost, disk: MountedDisk) -> CmdletResult:
    with FileSource(disk.path) as source:
        opened = open_disk(source)
        table = read_partitions(opened)
    known: Parameters = {
        "DiskNumber": disk.number,
        "Number": disk.number,
        "PartitionStyle": {"gpt": "GPT", "mbr": "MBR"}.get(table.scheme, "RAW"),
        "OperationalStatus": "Offline" if disk.offline else "Online",
        "HealthStatus": "Healthy",
        "BusType": "File Backed Virtual",
        "IsOffline": disk.offline,
        "IsReadOnly": disk.read_only,
        "OfflineReason": _offline_reason(host, disk, table.identifier) if disk.offline else None,
        "Size": opened.size,
        "Guid": f"{{{table.identifier}}}" if table.scheme == "gpt" else None,
        "Location": str(disk.path),
        "NumberOfPartitions": len(table.partitions),
    }
    return result("Get-Disk", known)


def _offline_reason(host: EmulatedHost, disk: MountedDisk, identifier: str) -> str:
    """Collision where an earlier disk has the same identifier: two copies of one template."""
    for other in host.disks.values():
        if other is not disk and not other.offline:
            with FileSource(other.path) as source:
                if identifier and read_partitions(open_disk(source)).identifier == identifier:
                    return "Collision"
    return "Policy"


@cmdlet("Set-Disk")
def set_disk(host: EmulatedHost, parameters: Parameters, _: ReportCallback) -> list[CmdletResult]:
    """Bring a disk online or offline, or make it writable or read-only."""
    disk = find_disk(host, parameters.get("Number"))
    if "IsOffline" in parameters:
        disk.offline = bool(parameters["IsOffline"])
    if "IsReadOnly" in parameters:
        disk.read_only = bool(parameters["IsReadOnly"])
    return []


@cmdlet("Get-Partition")
def get_partition(
    host: EmulatedHost, parameters: Parameters, _: ReportCallback
) -> list[CmdletResult]:
    """Describe the partitions of a disk."""
    disk = find_disk(host, parameters.get("DiskNumber"))
    with FileSource(disk.path) as source:
        table = read_partitions(open_disk(source))
    results = []
    for partition in table.partitions:
        paths = [f"{path}/" for path in disk.access_paths.get(partition.number, ())]
        known: Parameters = {
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
        results.append(result("Get-Partition", known))
    return results


def _access_path(host: EmulatedHost, parameters: Parameters) -> tuple[MountedDisk, int, Path]:
    disk = find_disk(host, parameters.get("DiskNumber"))
    number = first(parameters.get("PartitionNumber"))
    if not isinstance(number, int):
        raise _invalid_parameter()
    return disk, number, Path(str(parameters.get("AccessPath"))).resolve()


@cmdlet("Add-PartitionAccessPath")
def add_access_path(
    host: EmulatedHost, parameters: Parameters, _: ReportCallback
) -> list[CmdletResult]:
    """Mount a partition in an empty directory."""
    disk, number, path = _access_path(host, parameters)
    if disk.offline or not path.is_dir() or any(path.iterdir()):
        raise _invalid_parameter()
    disk.access_paths.setdefault(number, []).append(str(path))
    return []


@cmdlet("Remove-PartitionAccessPath")
def remove_access_path(
    host: EmulatedHost, parameters: Parameters, _: ReportCallback
) -> list[CmdletResult]:
    """Take a partition away from a directory."""
    disk, number, path = _access_path(host, parameters)
    known = disk.access_paths.get(number, [])
    if str(path) not in known:
        raise _invalid_parameter()
    known.remove(str(path))
    return []


def _invalid_parameter() -> CmdletFailure:
    return CmdletFailure(
        "Invalid Parameter", hresult=0x80131500, category="InvalidArgument",
        error_id="StorageWMI 5",
        exception="Microsoft.Management.Infrastructure.CimException",
    )  # fmt: skip
