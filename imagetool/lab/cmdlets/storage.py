"""The cmdlets of the module Storage."""

from __future__ import annotations

from pathlib import Path

from imagetool.disk import FileSource, open_disk, read_partitions
from imagetool.disk.partitions import PartitionTable
from imagetool.lab.cmdlet import CmdletResult, ReportCallback
from imagetool.lab.cmdlets import Parameters, cmdlet, file_path, first, result
from imagetool.lab.cmdlets.images import describe_image, mount_image
from imagetool.lab.disks.identity import give_new_identity
from imagetool.lab.effects import effect, refusal
from imagetool.lab.emulated_host import EmulatedHost, MountedDisk

_CIM_JOB_EXCEPTION = "Microsoft.PowerShell.Cmdletization.Cim.CimJobException"
_CIM_EXCEPTION = "Microsoft.Management.Infrastructure.CimException"

_NO_SUCH_DISK = refusal(
    "Get-Disk",
    "is refused for a number that no disk has, and for a disk that is not there yet",
    "No MSFT_Disk objects found with property 'Number' equal to '{number}'.  Verify the value of "
    "the property and retry.",
    confirmed_by="a captured error; Easy-GPU-PV#393 for a disk that is not there yet",
    category="ObjectNotFound",
    error_id="CmdletizationQuery_NotFound_Number",
    exception=_CIM_JOB_EXCEPTION,
)
_WRITE_PROTECTED = refusal(
    "Set-Disk",
    "cannot make a disk writable where policy denies writing",
    "The media is write protected.",
    0x80070013,
    confirmed_by="Lability#345, dev_drive_creation#65 (the code; the cmdlet is a guess)",
    error_id="StorageWMI 40001",
    exception=_CIM_EXCEPTION,
)
_INVALID_ACCESS_PATH = refusal(
    "Add-PartitionAccessPath",
    "is refused for a directory that is not there, not empty, or not on a local NTFS volume, and "
    "for a disk that is offline",
    "Invalid Parameter",
    confirmed_by="a captured error for a directory that is not there; the documentation for the "
    "others, whose id is a guess",
    category="InvalidArgument",
    error_id="StorageWMI 5",
    exception=_CIM_EXCEPTION,
)
_NO_ACCESS_PATH = refusal(
    "Remove-PartitionAccessPath",
    "is refused for a directory that is no access path of the partition",
    "Invalid Parameter",
    category="InvalidArgument",
    error_id="StorageWMI 5",
    exception=_CIM_EXCEPTION,
)
_NOT_ATTACHED = refusal(
    "Dismount-DiskImage",
    "is refused for an image that is not mounted",
    "The specified image is not attached.",
    error_id="StorageWMI 5",
    exception=_CIM_EXCEPTION,
)
effect(
    "Get-Disk",
    "shows a disk offline with the reason Collision where another has its identifier",
    confirmed_by="the vendor's documentation of MSFT_Disk",
)
effect(
    "Set-Disk",
    "gives a colliding disk a new identifier when it is brought online",
    confirmed_by="the vendor's documentation of disk signature collisions",
)
effect(
    "Get-Volume",
    "shows no file system for a volume that BitLocker has encrypted",
)


def find_disk(host: EmulatedHost, number: object) -> MountedDisk:
    """Return the disk of that number. Raises CmdletFailure; of a late one for a while."""
    value = first(number)
    disk = host.disks.get(value) if isinstance(value, int) else None
    if disk is None or disk.is_late("disk"):
        raise _NO_SUCH_DISK(number=value)
    return disk


_FILE_SYSTEMS = {
    b"NTFS    ": "NTFS",
    b"ReFS\0\0\0\0": "ReFS",
    b"MSDOS5.0": "FAT32",
    b"mkfs.fat": "FAT32",
}
"""By the name in a boot sector; that of BitLocker (-FVE-FS-) stands for none that can be read."""


def _file_system_of(disk: MountedDisk, offset: int) -> str:
    with FileSource(disk.path) as source:
        return _FILE_SYSTEMS.get(open_disk(source).read_at(offset + 3, 8), "")


def read_table(disk: MountedDisk) -> PartitionTable:
    """Read the partition table of a mounted disk. Raises ImagetoolError."""
    with FileSource(disk.path) as source:
        return read_partitions(open_disk(source))


@cmdlet("Get-Disk")
def get_disk(host: EmulatedHost, parameters: Parameters, _: ReportCallback) -> list[CmdletResult]:
    """Describe one disk, or all."""
    asked = "Number" in parameters
    chosen = [find_disk(host, parameters["Number"])] if asked else list(host.disks.values())
    return [_describe(host, disk) for disk in chosen]


def _describe(host: EmulatedHost, disk: MountedDisk) -> CmdletResult:
    table = read_table(disk)
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
        "Size": describe_image(disk.path).size,
        "Guid": f"{{{table.identifier}}}" if table.scheme == "gpt" else None,
        "Signature": int(table.identifier, 16) if table.scheme == "mbr" else None,
        "Location": str(disk.path),
        "NumberOfPartitions": len(table.partitions),
    }
    return result("Get-Disk", known)


def _collides(host: EmulatedHost, disk: MountedDisk, identifier: str) -> bool:
    """True if a disk that is online has the same identifier: two copies of one template."""
    others = (item for item in host.disks.values() if item is not disk and not item.offline)
    return bool(identifier) and any(read_table(item).identifier == identifier for item in others)


def _offline_reason(host: EmulatedHost, disk: MountedDisk, identifier: str) -> str:
    return "Collision" if _collides(host, disk, identifier) else "Policy"


@cmdlet("Set-Disk")
def set_disk(host: EmulatedHost, parameters: Parameters, _: ReportCallback) -> list[CmdletResult]:
    """Bring a disk online or offline, or make it writable or read-only."""
    disk = find_disk(host, parameters.get("Number"))
    if "IsOffline" in parameters:
        if disk.offline and not parameters["IsOffline"]:
            table = read_table(disk)
            if _collides(host, disk, table.identifier):
                give_new_identity(disk.path, table.scheme)
        disk.offline = bool(parameters["IsOffline"])
    if "IsReadOnly" in parameters:
        if not parameters["IsReadOnly"] and host.configuration.host.deny_write_access:
            raise _WRITE_PROTECTED()
        disk.read_only = bool(parameters["IsReadOnly"])
    return []


@cmdlet("Get-Partition")
def get_partition(
    host: EmulatedHost, parameters: Parameters, _: ReportCallback
) -> list[CmdletResult]:
    """Describe the partitions of a disk; of a late one none for a while."""
    disk = find_disk(host, parameters.get("DiskNumber"))
    if disk.is_late("partitions"):
        return []
    table = read_table(disk)
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
            "AccessPaths": [*paths, _volume_path(partition.identifier)],
            "IsOffline": disk.offline,
            "IsReadOnly": disk.read_only,
            "OperationalStatus": "Offline" if disk.offline else "Online",
        }
        results.append(result("Get-Partition", known))
    return results


def _volume_path(identifier: str) -> str:
    return f"\\\\?\\Volume{{{identifier}}}\\"


@cmdlet("Get-Volume")
def get_volume(host: EmulatedHost, parameters: Parameters, _: ReportCallback) -> list[CmdletResult]:
    """Describe the volumes of the disks that are online; -FilePath names a directory."""
    asked = first(parameters.get("FilePath"))
    if asked:
        directory = host.configuration.directory_of(Path(str(asked)))
        kind = directory.kind if directory is not None else "ntfs"
        systems = {"ntfs": "NTFS", "refs": "ReFS", "csv": "CSVFS", "share": "NTFS"}
        drive = "Remote" if kind == "share" else "Fixed"
        return [result("Get-Volume", {"FileSystem": systems[kind], "DriveType": drive})]
    found = []
    for disk in host.disks.values():
        if disk.offline:
            continue
        for partition in read_table(disk).partitions:
            known: Parameters = {
                "Path": _volume_path(partition.identifier),
                "UniqueId": _volume_path(partition.identifier),
                "FileSystem": _file_system_of(disk, partition.offset),
                "DriveType": "Fixed",
                "Size": partition.size,
            }
            found.append(result("Get-Volume", known))
    return found


# Access paths


@cmdlet("Add-PartitionAccessPath")
def add_access_path(
    host: EmulatedHost, parameters: Parameters, _: ReportCallback
) -> list[CmdletResult]:
    """Mount a partition in an empty directory of a local NTFS volume."""
    disk = find_disk(host, parameters.get("DiskNumber"))
    number = first(parameters.get("PartitionNumber"))
    path = Path(str(parameters.get("AccessPath"))).resolve()
    directory = host.configuration.directory_of(path)
    on_ntfs = directory is None or directory.kind == "ntfs"
    empty = path.is_dir() and not any(path.iterdir())
    if not isinstance(number, int) or disk.offline or not empty or not on_ntfs:
        raise _INVALID_ACCESS_PATH()
    disk.access_paths.setdefault(number, []).append(str(path))
    return []


@cmdlet("Remove-PartitionAccessPath")
def remove_access_path(
    host: EmulatedHost, parameters: Parameters, _: ReportCallback
) -> list[CmdletResult]:
    """Take a partition away from a directory."""
    disk = find_disk(host, parameters.get("DiskNumber"))
    number = first(parameters.get("PartitionNumber"))
    path = str(Path(str(parameters.get("AccessPath"))).resolve())
    known = disk.access_paths.get(number, []) if isinstance(number, int) else []
    if path not in known:
        raise _NO_ACCESS_PATH()
    known.remove(path)
    return []


# Disk images: the way of a host without Hyper-V


def _describe_disk_image(host: EmulatedHost, path: Path) -> CmdletResult:
    facts, disk = describe_image(path), host.find_mounted(path)
    known: Parameters = {
        "Attached": disk is not None,
        "BlockSize": facts.block_size,
        "DevicePath": "" if disk is None else f"\\\\.\\PhysicalDrive{disk.number}",
        "FileSize": facts.file_size,
        "ImagePath": str(path),
        "LogicalSectorSize": facts.logical_sector_size,
        "Number": None if disk is None or disk.is_late("number") else disk.number,
        "Size": facts.size,
        "StorageType": 3 if facts.format == "VHDX" else 2,
    }
    return result("Mount-DiskImage", known)


@cmdlet("Get-DiskImage")
def get_disk_image(
    host: EmulatedHost, parameters: Parameters, _: ReportCallback
) -> list[CmdletResult]:
    """Describe an image, mounted or not."""
    return [_describe_disk_image(host, file_path(parameters, "ImagePath"))]


@cmdlet("Mount-DiskImage")
def mount_disk_image(
    host: EmulatedHost, parameters: Parameters, _: ReportCallback
) -> list[CmdletResult]:
    """Mount an image."""
    path = file_path(parameters, "ImagePath")
    mount_image(host, path, read_only=parameters.get("Access") == "ReadOnly")
    return [_describe_disk_image(host, path)] if parameters.get("PassThru") else []


@cmdlet("Dismount-DiskImage")
def dismount_disk_image(
    host: EmulatedHost, parameters: Parameters, _: ReportCallback
) -> list[CmdletResult]:
    """Dismount an image."""
    path = file_path(parameters, "ImagePath")
    disk = host.find_mounted(path)
    if disk is None:
        raise _NOT_ATTACHED()
    host.dismount(disk)
    return [_describe_disk_image(host, path)] if parameters.get("PassThru") else []
