"""Image files, as the cmdlets of Hyper-V and Storage mount and describe them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from imagetool.disk import FileSource, open_disk
from imagetool.disk.vhd import Vhd
from imagetool.disk.vhdx import Vhdx
from imagetool.lab.cmdlets import VIRTUALIZATION_EXCEPTION
from imagetool.lab.effects import effect, refusal
from imagetool.lab.emulated_host import EmulatedHost, MountedDisk

_COULD_NOT_MOUNT = "Failed to mount the virtual disk.\nThe system failed to mount '{path}'."
_IN_USE = refusal(
    "Mount-VHD",
    "is refused for a file that is mounted, that a running virtual machine has, or that somebody "
    "has open",
    _COULD_NOT_MOUNT,
    0x80070020,
    confirmed_by="NetworkingDsc#312 (captured: the message; the HRESULT is a guess)",
    category="ResourceBusy",
    error_id="ObjectInUse",
    exception=VIRTUALIZATION_EXCEPTION,
)
_UNMOUNTABLE = refusal(
    "Mount-VHD",
    "is refused for a file that is sparse, compressed or encrypted",
    f"{_COULD_NOT_MOUNT}\nVirtual hard disk files must be uncompressed and unencrypted and must "
    "not be sparse.",
    0xC03A001A,
    confirmed_by="WSL#4103, vagrant#11118",
    exception=VIRTUALIZATION_EXCEPTION,
)
_NO_DISK = refusal(
    "Get-VHD",
    "is refused for a file that is no virtual disk",
    "The file is not a virtual hard disk.",
    0xC03A0015,
    exception=VIRTUALIZATION_EXCEPTION,
)
_FULL_LOG = refusal(
    "Mount-VHD",
    "is refused for a VHDX whose log is not empty, where Windows replays it",
    "The log of '{path}' is not empty.",
    0xC03A0010,
    exception=VIRTUALIZATION_EXCEPTION,
)
effect(
    "Mount-VHD",
    "leaves a new disk offline and read-only (SAN policy), or online and writable",
    confirmed_by="the vendor's documentation of the SAN policy",
)
effect(
    "Mount-VHD",
    "mounts read-only where policy denies writing to drives that BitLocker does not protect",
    confirmed_by="Lability#345, dev_drive_creation#65",
)
effect(
    "Mount-VHD",
    "shows a disk some time later, and its partitions later still",
    confirmed_by="Easy-GPU-PV#393, Invoke-FslShrinkDisk#54; how much later is a guess",
)
effect(
    "Dismount-VHD",
    "holds the file for a while",
    confirmed_by="FFU#95, repair-script-library#143; how long is a guess",
)


class ImageFacts(NamedTuple):
    """What a host says of an image file. Sizes in bytes."""

    format: str
    kind: str
    """Dynamic, Fixed or Differencing."""
    file_size: int
    size: int
    logical_sector_size: int
    physical_sector_size: int
    block_size: int
    identifier: str
    parent: str


def describe_image(path: Path) -> ImageFacts:
    """Read the facts of an image file. Raises CmdletFailure, ImagetoolError."""
    with ExitStack() as stack:
        source = stack.enter_context(FileSource(path))
        disk = open_disk(source)
        stack.callback(disk.close)
        parent = disk.chain[0] if disk.chain else ""
        if isinstance(disk, Vhdx):
            if disk.warnings:
                # A real host replays the log when it mounts; the emulated one writes no log.
                raise _FULL_LOG(path=path)
            sizes = disk.metadata
            sectors = (sizes.logical_sector_size, sizes.physical_sector_size, sizes.block_size)
            identifier = disk.identifiers["VirtualDiskId"]
        elif isinstance(disk, Vhd):
            sectors = (disk.sector_size, disk.sector_size, disk.block_size)
            identifier = disk.identifiers["UniqueId"]
        else:
            raise _NO_DISK()
        kind, sizes_of_file = disk.kind.capitalize(), (source.size, disk.size)
        return ImageFacts(disk.format, kind, *sizes_of_file, *sectors, identifier.upper(), parent)


def parents_of(path: Path) -> list[Path]:
    """Return the files of a child's parents, the nearest first. Raises ImagetoolError."""
    with ExitStack() as stack:
        disk = open_disk(stack.enter_context(FileSource(path)))
        stack.callback(disk.close)
        return [Path(name) for name in disk.chain]


def is_held(host: EmulatedHost, path: Path) -> bool:
    """True if a file is mounted, or a running virtual machine has it."""
    return host.find_mounted(path) is not None or host.configuration.holder_of(path) is not None


def check_not_held(host: EmulatedHost, path: Path) -> None:
    """Refuse a file that is in use. Raises CmdletFailure."""
    if is_held(host, path):
        raise _IN_USE(path=path)


def mount_image(host: EmulatedHost, path: Path, *, read_only: bool) -> MountedDisk:
    """Mount a file. Raises CmdletFailure where Windows would refuse it, ImagetoolError."""
    check_not_held(host, path)
    directory = host.configuration.directory_of(path)
    if directory is not None and directory.attributes:
        raise _UNMOUNTABLE(path=path)
    describe_image(path)
    try:
        return host.mount(path, read_only=read_only, parents=parents_of(path))
    except BlockingIOError:
        raise _IN_USE(path=path) from None
