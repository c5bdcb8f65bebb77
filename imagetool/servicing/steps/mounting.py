"""The cmdlets that mount an image: Mount-VHD, and Mount-DiskImage on a host without Hyper-V."""

from __future__ import annotations

from typing import NamedTuple

from imagetool.contracts import Host


class Mounting(NamedTuple):
    """The cmdlets of a module that mount, find and dismount an image."""

    mount: str
    find: str
    dismount: str
    path: str
    """The parameter of each that names the image."""
    number: str
    """The property of a found image that is the number of its disk."""


_HYPER_V = Mounting("Mount-VHD", "Get-VHD", "Dismount-VHD", "Path", "DiskNumber")
_DISK_IMAGE = Mounting(
    "Mount-DiskImage", "Get-DiskImage", "Dismount-DiskImage", "ImagePath", "Number"
)


def mounting_of(host: Host) -> Mounting:
    """Return the cmdlets to use on a host."""
    return _HYPER_V if "Hyper-V" in host.modules else _DISK_IMAGE


def mount(host: Host, image: str) -> None:
    """Mount an image, writable and without a drive letter. Raises CmdletFailed."""
    use = mounting_of(host)
    options = {use.path: image} | ({} if use is _HYPER_V else {"Access": "ReadWrite"})
    host.invoke(use.mount, NoDriveLetter=True, **options)  # type: ignore[arg-type]  # a mapping of options


def dismount(host: Host, image: str) -> None:
    """Dismount an image. Raises CmdletFailed."""
    use = mounting_of(host)
    host.invoke(use.dismount, **{use.path: image})  # type: ignore[arg-type]  # a mapping of options


def is_attached(host: Host, image: str) -> bool:
    """True if the host has this image mounted. Raises CmdletFailed, HostFailed."""
    return disk_number(host, image) is not None


def disk_number(host: Host, image: str) -> int | None:
    """Return the number of the disk that this image is mounted as; None where it is not.

    -1 where the host does not say it, or not yet. Raises CmdletFailed, HostFailed.
    """
    use = mounting_of(host)
    options = {use.path: image}
    for record in host.invoke(use.find, properties=("Attached", use.number), **options):  # type: ignore[arg-type]  # a mapping of options
        if record.flag("Attached"):
            number = record.get(use.number)
            return number if isinstance(number, int) else -1
    return None
