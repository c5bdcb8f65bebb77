"""mount: the copy becomes a disk of the host, without a drive letter, online and writable.

Windows demands this order, and two calls: the two switches of Set-Disk share no parameter set. A
disk that is offline because its identifier collides with another's is never brought online: Windows
would give it a new one, and the guest would no longer boot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from imagetool.contracts import Host
from imagetool.errors import HostFailed, ServicingFailed
from imagetool.host.files import FileOperations
from imagetool.servicing.plan import Facts
from imagetool.servicing.steps import StepKind, Work


def _do(work: Work, facts: Facts) -> None:
    host, image = work.host, facts["image"]
    records = host.invoke(
        "Mount-VHD", Path=image, NoDriveLetter=True, Passthru=True, properties=("DiskNumber",)
    )
    number = required_number(records, "DiskNumber", f"Mount-VHD gave no disk number for {image}")
    state = host.invoke(
        "Get-Disk", Number=number, properties=("IsOffline", "IsReadOnly", "OfflineReason")
    )
    if state and str(state[0].get("OfflineReason") or "").lower() == "collision":
        raise HostFailed(
            f"{image}: the host keeps the disk offline, because another disk has its identifier",
            hint="Dismount the other copy of this template on the host, then try again.",
        )
    host.invoke("Set-Disk", Number=number, IsOffline=False)
    host.invoke("Set-Disk", Number=number, IsReadOnly=False)


def undo(host: Host, facts: Facts) -> None:
    """Dismount the image if it is mounted: Mount-VHD may have been interrupted."""
    image = facts["image"]
    if not FileOperations(host).stat(image).exists:
        return
    if is_attached(host, image):
        host.invoke("Dismount-VHD", Path=image)
    if FileOperations(host).in_use(image):
        raise ServicingFailed(
            f"{image}: the host still holds the file after dismounting it",
            hint="A scanner or an indexer may have it open: wait, and try again.",
        )


def _remains(host: Host, facts: Facts) -> Iterator[str]:
    image = facts["image"]
    if FileOperations(host).stat(image).exists and is_attached(host, image):
        yield f"the mounted image {image}"


def is_attached(host: Host, image: str) -> bool:
    """True if the host has this image mounted. Raises CmdletFailed, HostFailed."""
    return disk_number(host, image) is not None


def disk_number(host: Host, image: str) -> int | None:
    """Return the number of the disk that this image is mounted as; None where it is not.

    Raises CmdletFailed, HostFailed.
    """
    for record in host.invoke("Get-VHD", Path=image, properties=("Attached", "DiskNumber")):
        if record.flag("Attached"):
            number = record.get("DiskNumber")
            return number if isinstance(number, int) else -1
    return None


def find_disk(host: Host, image: str) -> int:
    """Return the number of the disk that this image is mounted as. Raises HostFailed."""
    number = disk_number(host, image)
    if number is None or number < 0:
        raise HostFailed(
            f"{image}: the host shows no disk for the mounted image",
            hint="Look at the disk with Get-Disk on the host.",
        )
    return number


def required_number(records: Sequence[dict[str, object]], name: str, sentence: str) -> int:
    """Return a number of the first result. Raises HostFailed with the sentence."""
    value = records[0].get(name) if records else None
    if not isinstance(value, int) or isinstance(value, bool):
        raise HostFailed(sentence, hint="Look at the disk with Get-Disk on the host.")
    return value


KINDS = {"mount": StepKind("mount", "mount the copy, without a drive letter", _do, undo, _remains)}
