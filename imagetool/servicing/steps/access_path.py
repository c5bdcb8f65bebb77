"""access-path: the Windows partition of the mounted copy appears in an empty directory."""

from __future__ import annotations

from collections.abc import Iterator

from imagetool.contracts import Host
from imagetool.errors import ServicingFailed
from imagetool.host.files import FileOperations
from imagetool.host.patience import Patience
from imagetool.host.reading import paths
from imagetool.servicing.plan import Facts
from imagetool.servicing.steps import StepKind, Work, mount
from imagetool.servicing.steps.mount import find_disk, required_number
from imagetool.servicing.steps.mounting import disk_number

MOUNT_NAME = "m"


def resolve(work: Work, facts: Facts) -> Facts:
    """Add the directory that the volume is mounted in, and what mount.resolve adds."""
    directory = paths.join(work.directory, MOUNT_NAME, work.host.on_windows)
    return {**mount.resolve(work, facts), "directory": directory}


def _do(work: Work, facts: Facts) -> None:
    host, directory = work.host, facts["directory"]
    disk = find_disk(host, facts["image"], work.patience)
    partitions = (
        work.patience.for_device(
            "the partitions of the disk",
            lambda: (
                host.invoke(
                    "Get-Partition", DiskNumber=disk, properties=("PartitionNumber", "Offset")
                )
                or None
            ),
        )
        or []
    )
    fitting = [record for record in partitions if record.get("Offset") == facts["offset"]]
    partition = required_number(
        fitting,
        "PartitionNumber",
        f"{facts['image']}: the host shows no partition at offset {facts['offset']}",
    )
    work.files.make_directory(directory)
    host.invoke(
        "Add-PartitionAccessPath",
        DiskNumber=disk,
        PartitionNumber=partition,
        AccessPath=directory,
    )


def undo(host: Host, facts: Facts, patience: Patience) -> None:
    """Remove the access path and its directory, each if it is there, once DISM has let go of it.

    A mount point that a dismounted disk has left behind is removed as one.
    """
    files = FileOperations(host)
    if files.stat(facts["image"]).exists:
        for disk, partition in _access_paths(host, facts):
            mount.wait_for_servicing(host, facts, patience)
            files.close_hives(facts["directory"])
            host.invoke(
                "Remove-PartitionAccessPath",
                DiskNumber=disk,
                PartitionNumber=partition,
                AccessPath=facts["directory"],
            )
    files.remove_directory(facts["directory"], own=True)


def _access_paths(host: Host, facts: Facts) -> Iterator[tuple[int, int]]:
    """The disk and partition numbers that have the directory as an access path."""
    disk = disk_number(host, facts["image"])
    if disk is None:
        return
    if disk < 0:
        raise ServicingFailed(
            f"{facts['image']}: the host does not say which disk it is mounted as",
            hint="Look at the disk with Get-VHD on the host.",
        )
    wanted = _normal(facts["directory"])
    for record in host.invoke(
        "Get-Partition", DiskNumber=disk, properties=("PartitionNumber", "AccessPaths")
    ):
        known, number = record.get("AccessPaths"), record.get("PartitionNumber")
        listed = known if isinstance(known, list) else []
        if isinstance(number, int) and wanted in [_normal(str(item)) for item in listed]:
            yield disk, number


def _normal(path: str) -> str:
    return path.rstrip("/\\").lower()


def _remains(host: Host, facts: Facts) -> Iterator[str]:
    files = FileOperations(host)
    if files.stat(facts["image"]).exists and list(_access_paths(host, facts)):
        yield f"the access path {facts['directory']}"
    if files.stat(facts["directory"]).exists:
        yield f"the directory {facts['directory']}"


KINDS = {
    "access-path": StepKind(
        "access-path",
        "find the partition that holds Windows, and give it an access path",
        _do,
        undo,
        _remains,
        resolve,
    )
}
