"""Mounting of a disk image on the host, with an access path to its Windows volume.

Windows demands this order (the caller's clean-up stack reverts a failure in the middle): mount
without a drive letter, bring the disk online, then make it writable (two calls: the two switches
share no parameter set), find the partition by its offset, give it an empty directory as its access
path. A disk that is offline because its identifier collides with another's is never
brought online: Windows would give it a new one, and the guest would no longer boot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagetool.errors import HostFailed
from imagetool.host.session import Session
from imagetool.servicing.cleanup import CleanupAction, CleanupStack


@dataclass(frozen=True, slots=True)
class MountedImage:
    """A mounted image: the access path to its volume, and the actions that dismount it."""

    directory: Path
    cleanup_actions: tuple[CleanupAction, ...]


def mount(
    session: Session,
    image: Path,
    directory: Path,
    offset: int,
    cleanup: CleanupStack,
    on_step: Callable[[str], None],
) -> MountedImage:
    """Mount `image` on the host, with the partition at `offset` bytes in the empty `directory`.

    Raises HostFailed where the host refuses, or shows no such partition.
    """
    on_step("mount the copy, without a drive letter")
    dismount = cleanup.push(f"the mounted image {image}", lambda: _dismount(session, image))
    records = session.invoke(
        "Mount-VHD", Path=str(image), NoDriveLetter=True, Passthru=True, properties=("DiskNumber",)
    )
    number = _required_number(records, "DiskNumber", f"Mount-VHD gave no disk number for {image}")

    on_step(f"bring disk {number} online, then make it writable")
    state = session.invoke(
        "Get-Disk", Number=number, properties=("IsOffline", "IsReadOnly", "OfflineReason")
    )
    if state and str(state[0].get("OfflineReason") or "").lower() == "collision":
        raise HostFailed(
            f"{image}: the host keeps the disk offline, because another disk has its identifier",
            hint="Dismount the other copy of this template on the host, then try again.",
        )
    session.invoke("Set-Disk", Number=number, IsOffline=False)
    session.invoke("Set-Disk", Number=number, IsReadOnly=False)

    on_step("find the partition that holds Windows, and give it an access path")
    partitions = session.invoke(
        "Get-Partition", DiskNumber=number, properties=("PartitionNumber", "Offset")
    )
    fitting = [record for record in partitions if record.get("Offset") == offset]
    partition = _required_number(
        fitting, "PartitionNumber", f"{image}: the host shows no partition at offset {offset}"
    )
    path = str(directory)
    remove_directory = cleanup.push(
        f"the directory {directory}", lambda: session.files.remove_directory(path)
    )
    session.files.make_directory(path)
    remove_path = cleanup.push(
        f"the access path {directory}",
        lambda: _remove_access_path(session, number, partition, path),
    )
    session.invoke(
        "Add-PartitionAccessPath", DiskNumber=number, PartitionNumber=partition, AccessPath=path
    )
    return MountedImage(directory, (remove_path, remove_directory, dismount))


def dismount(cleanup: CleanupStack, disk: MountedImage) -> None:
    """Remove the access path, then its directory, then dismount the disk."""
    for action in disk.cleanup_actions:
        cleanup.run_now(action)


def _remove_access_path(session: Session, disk: int, partition: int, path: str) -> None:
    """Remove the access path if present: Add-PartitionAccessPath may have been interrupted."""
    records = session.invoke(
        "Get-Partition", DiskNumber=disk, properties=("PartitionNumber", "AccessPaths")
    )
    for record in records:
        paths = record.get("AccessPaths")
        known = (
            [str(item).rstrip("/\\").lower() for item in paths] if isinstance(paths, list) else []
        )
        if record.get("PartitionNumber") == partition and path.rstrip("/\\").lower() in known:
            session.invoke(
                "Remove-PartitionAccessPath",
                DiskNumber=disk,
                PartitionNumber=partition,
                AccessPath=path,
            )


def _dismount(session: Session, image: Path) -> None:
    """Dismount the image if mounted: Mount-VHD may have been interrupted."""
    path = str(image)
    if not session.files.stat(path).exists:
        return
    if any(
        record.flag("Attached")
        for record in session.invoke("Get-VHD", Path=path, properties=("Attached",))
    ):
        session.invoke("Dismount-VHD", Path=path)
    if session.files.in_use(path):
        raise HostFailed(
            f"{image}: the host still holds the file after dismounting it",
            hint="A scanner or an indexer may have it open: wait, and try again.",
        )


def _required_number(records: Sequence[dict[str, object]], name: str, sentence: str) -> int:
    value = records[0].get(name) if records else None
    if not isinstance(value, int):
        raise HostFailed(sentence, hint="Look at the disk with Get-Disk on the host.")
    return value
