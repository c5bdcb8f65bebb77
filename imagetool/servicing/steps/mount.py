"""mount: the copy becomes a disk of the host, without a drive letter, online and writable.

Windows demands this order, and two calls: the two switches of Set-Disk share no parameter set. A
disk that is offline because its identifier collides with another's is never brought online: Windows
would give it a new one, and the guest would no longer boot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from imagetool.contracts import Host, Result
from imagetool.errors import CannotWrite, HostFailed, ServicingFailed
from imagetool.host.files import FileOperations
from imagetool.host.patience import Patience
from imagetool.servicing.plan import Facts
from imagetool.servicing.steps import StepKind, Work, mounting


def resolve(work: Work, facts: Facts) -> Facts:
    """Add the process of the session's script: what it has started may outlive it."""
    process = work.host.hello.get("process")
    return {**facts, "process": process if isinstance(process, int) else 0}


def _do(work: Work, facts: Facts) -> None:
    host, image = work.host, facts["image"]
    _check_attributes(work.files, image)
    mounting.mount(host, image)
    number = find_disk(host, image, work.patience)
    before = _wait_for_disk(work, number)
    if str(before["OfflineReason"] or "").lower() == "collision":
        raise _collision(image)
    host.invoke("Set-Disk", Number=number, IsOffline=False)
    host.invoke("Set-Disk", Number=number, IsReadOnly=False)
    after = _wait_for_disk(work, number)
    if any(after[name] != before[name] for name in _IDENTITY):
        raise _collision(image)  # another copy has come online between the two calls


_IDENTITY = ("Guid", "Signature")


def _wait_for_disk(work: Work, number: int) -> Result:
    def ask() -> list[Result] | None:
        properties = ("OfflineReason", *_IDENTITY)
        return work.host.invoke("Get-Disk", Number=number, properties=properties) or None

    found = work.patience.for_device("the disk", ask)
    if found is None:
        raise HostFailed(
            f"the host shows no disk {number}, which it says the image is mounted as",
            hint="Look at the disk with Get-Disk on the host.",
        )
    return found[0]


def _collision(image: str) -> HostFailed:
    return HostFailed(
        f"{image}: another disk that is mounted on the host has its identifier",
        hint="Dismount the other copy of this template there, then try again.",
    )


def undo(host: Host, facts: Facts, patience: Patience) -> None:
    """Dismount the image if it is mounted: Mount-VHD may have been interrupted."""
    image, files = facts["image"], FileOperations(host)
    if not files.stat(image).exists:
        return
    if mounting.is_attached(host, image):
        wait_for_servicing(host, facts, patience)
        patience.for_file("the disk to be let go of", lambda: _dismount(host, image))
    free = patience.for_file("the file to be let go of", lambda: not files.in_use(image) or None)
    if free is None:
        raise ServicingFailed(
            f"{image}: the host still holds the file after dismounting it",
            hint="A scanner or an indexer may have it open: wait, and try again.",
        )


def _dismount(host: Host, image: str) -> bool:
    mounting.dismount(host, image)
    return True


def wait_for_servicing(host: Host, facts: Facts, patience: Patience) -> None:
    """Wait until no process of DISM is left that this work has started.

    It would go on without its image, with the host's own registry. Raises ServicingFailed.
    """
    known = (facts.get("process"), host.hello.get("process"))
    parents = [number for number in known if isinstance(number, int)]
    files = FileOperations(host)
    ended = patience.for_file("DISM to end", lambda: not files.servicing_processes(parents) or None)
    if ended is None:
        raise ServicingFailed(
            f"{facts['image']}: a process of DISM still works on the mounted disk",
            hint="Wait until dismhost.exe has ended on the host, then dismount it there.",
        )


def _check_attributes(files: FileOperations, image: str) -> None:
    """Refuse what Windows refuses to mount, with a way out. Raises CannotWrite."""
    found = unmountable(files.stat(image).attributes)
    if found:
        raise CannotWrite(
            f"{image}: the file is {found}, and Windows mounts no such image (0xC03A001A)",
            hint="Name an output in a directory that is neither compressed nor encrypted; "
            "`fsutil sparse setflag FILE 0` and `compact /u FILE` change a file.",
        )


def unmountable(attributes: int) -> str:
    """Return the attributes for which Windows mounts no image, in words; empty where none is.

    Attributes as in [MS-FSCC] 2.6.
    """
    words = {0x200: "sparse", 0x800: "compressed", 0x4000: "encrypted"}
    return " and ".join(word for bit, word in words.items() if attributes & bit)


def _remains(host: Host, facts: Facts) -> Iterator[str]:
    image = facts["image"]
    if FileOperations(host).stat(image).exists and mounting.is_attached(host, image):
        yield f"the mounted image {image}"


def find_disk(host: Host, image: str, patience: Patience) -> int:
    """Return the number of the disk that this image is mounted as. Raises HostFailed."""

    def ask() -> int | None:
        number = mounting.disk_number(host, image)
        return None if number is None or number < 0 else number

    number = patience.for_device("the number of the disk", ask)
    if number is None:
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


KINDS = {
    "mount": StepKind(
        "mount", "mount the copy, without a drive letter", _do, undo, _remains, resolve
    )
}
