"""The cmdlets of the module Dism."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from imagetool.guest.image import open_image
from imagetool.guest.windows.facts import read_windows_facts
from imagetool.lab import packages
from imagetool.lab.cmdlet import CmdletFailure, CmdletResult, ReportCallback, StreamRecord
from imagetool.lab.cmdlets import Parameters, cmdlet, file_path, result
from imagetool.lab.effects import effect, refusal
from imagetool.lab.emulated_host import EmulatedHost, MountedDisk

_NO_IMAGE = refusal(
    "Get-WindowsPackage",
    "is refused, as every cmdlet of DISM, for a directory in which no Windows is mounted",
    "The specified path {path} holds no Windows installation.",
    0x80070003,
    error_id="Microsoft.Dism.Commands.AddWindowsPackageCommand",
)
_READ_ONLY = refusal(
    "Add-WindowsPackage",
    "is refused for a disk that is read-only",
    "You do not have permissions to mount and modify this image.",
    0xC1510111,
    confirmed_by="public scripts' table of codes",
    error_id="Microsoft.Dism.Commands.AddWindowsPackageCommand",
)
effect(
    "Add-WindowsPackage",
    "is refused with 0x800F081E for a package that fits no package of the guest, and with "
    "0x800F0805 for what is no package",
    confirmed_by="WIM-Witch#21 and field reports; the second code by public scripts' table",
)
effect(
    "Add-WindowsPackage",
    "leaves the package pending (Get-WindowsPackage: InstallPending) until the guest boots",
)
effect(
    "Add-WindowsPackage",
    "writes the package's files, its keys and driver packages at once; drivers and services change "
    "at the guest's boot",
)
effect(
    "Add-WindowsPackage",
    "has a process of DISM (dismhost.exe) that may outlive it",
    confirmed_by="SCCMdocs#1542; how long is a guess",
)
_NO_SUCH_INDEX = refusal(
    "Get-WindowsImage",
    "is refused for another index than 1 of a virtual disk",
    "The specified image in the specified file does not exist.",
    0x80070002,
    confirmed_by="the vendor's documentation (the index must be 1; message and code are guesses)",
    error_id="Microsoft.Dism.Commands.GetWindowsImageCommand",
)
effect("Get-WindowsImage", "describes the Windows in a virtual disk by its hives")
_ARCHITECTURES = {"amd64": "x64", "x86": "x86", "arm64": "ARM64"}
_STATE_NAMES = {
    0x00: "NotPresent",
    0x05: "UninstallPending",
    0x40: "Staged",
    0x50: "Superseded",
    0x60: "InstallPending",
    0x65: "PartiallyInstalled",
    0x70: "Installed",
    0x80: "Installed",
}


def _find_image(host: EmulatedHost, parameters: Parameters) -> tuple[MountedDisk, int]:
    """Return the disk and the partition number that are mounted in the directory of -Path."""
    path = str(Path(str(parameters.get("Path"))).resolve())
    for disk in host.disks.values():
        for number, paths in disk.access_paths.items():
            if path in paths:
                return disk, number
    raise _NO_IMAGE(path=path)


class _DismLog:
    """The log that -LogPath names; without one nothing is written."""

    def __init__(self, path: object) -> None:
        self._path = Path(str(path)) if path else None
        self.write("the emulated host of imagetool, in place of DISM")

    def write(self, text: str) -> None:
        """Add a line, with its time."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}, Info  {text}\n")


@cmdlet("Add-WindowsPackage")
def add_windows_package(
    host: EmulatedHost, parameters: Parameters, report: ReportCallback
) -> list[CmdletResult]:
    """Add a package to the Windows on a mounted volume."""
    disk, number = _find_image(host, parameters)
    if disk.read_only:
        raise _READ_ONLY()
    cabinet = Path(str(parameters.get("PackagePath")))
    log = _DismLog(parameters.get("LogPath"))

    def note(record: StreamRecord) -> None:
        if record.kind != "progress":
            log.write(record.text)
        report(record)

    log.write(f"adding {cabinet} to volume {number} of {disk.path}")
    try:
        packages.add_package(disk.path, number, cabinet, note, disk.lock)
    except CmdletFailure as error:
        log.write(f"failed with 0x{error.hresult:08x}: {error.message}")
        raise
    log.write("added")
    host.add_servicing_process()
    known: Parameters = {"Path": parameters.get("Path"), "Online": False}
    return [result("Add-WindowsPackage", known | {"RestartNeeded": True})]


@cmdlet("Get-WindowsPackage")
def get_windows_package(
    host: EmulatedHost, parameters: Parameters, _: ReportCallback
) -> list[CmdletResult]:
    """Describe the packages of the Windows on a mounted volume."""
    disk, number = _find_image(host, parameters)
    wanted = str(parameters.get("PackageName") or "").lower()
    results = []
    for identity, state, installed in packages.list_packages(disk.path, number):
        if wanted and str(identity).lower() != wanted:
            continue
        known: Parameters = {
            "PackageName": str(identity),
            "PackageState": _STATE_NAMES.get(state, "NotPresent"),
            "ReleaseType": "Update",
            "InstallTime": installed if isinstance(installed, datetime) else None,
        }
        results.append(result("Get-WindowsPackage", known))
    return results


@cmdlet("Get-WindowsImage")
def get_windows_image(
    host: EmulatedHost, parameters: Parameters, _: ReportCallback
) -> list[CmdletResult]:
    """Describe the Windows in a virtual disk that is not mounted."""
    path = file_path(parameters, "ImagePath")
    if parameters.get("Index", 1) != 1:
        raise _NO_SUCH_INDEX()
    with open_image(path) as image:
        facts = read_windows_facts(image.windows())
    known: Parameters = {
        "ImageIndex": 1,
        "ImageName": facts.product,
        "ImageDescription": facts.product,
        "Architecture": _ARCHITECTURES.get(facts.architecture, facts.architecture),
        "Version": str(facts.version),
        "SPBuild": facts.version.revision,
        "EditionId": facts.edition,
    }
    return [result("Get-WindowsImage", known)]
