"""copy: the image is copied on the host, under a short name beside the output."""

from __future__ import annotations

from collections.abc import Iterator

from imagetool.contracts import Host
from imagetool.errors import CannotWrite, ServicingFailed
from imagetool.host.files import FileOperations
from imagetool.host.patience import Patience
from imagetool.servicing.plan import Facts
from imagetool.servicing.steps import StepKind, Work


def _resolve(work: Work, facts: Facts) -> Facts:
    """Add size and time of the image as they are now: after the copy they must be the same."""
    state = work.files.stat(facts["source"])
    written = state.last_written.isoformat() if state.last_written is not None else None
    return {**facts, "size": state.size, "last_written": written}


def _do(work: Work, facts: Facts) -> None:
    source, target = facts["source"], facts["target"]
    if work.files.stat(target).exists:
        raise CannotWrite(f"{target}: there is a file of that name already", hint="Try again.")
    work.files.own(target)  # deleted when the session ends, however it ends
    work.files.copy(source, target, work.on_event)
    if _resolve(work, facts) != facts:
        raise ServicingFailed(
            f"{work.plan.image.name}: the image was changed while it was copied",
            hint="Somebody writes to it: wait until that is done, then try again.",
        )
    copied = work.files.stat(target).size
    if copied != facts["size"]:
        raise ServicingFailed(
            f"{target}: the copy has {copied:,} bytes, and the image {facts['size']:,}",
            hint="Check the disk of the host.",
        )


def _undo(host: Host, facts: Facts, patience: Patience) -> None:
    files, target = FileOperations(host), facts["target"]
    if files.stat(target).exists and files.in_use(target):
        raise ServicingFailed(
            f"{target}: the host still holds the file",
            hint="Dismount it there (Dismount-VHD), then delete it.",
        )
    files.delete(target)


def _remains(host: Host, facts: Facts) -> Iterator[str]:
    if FileOperations(host).stat(facts["target"]).exists:
        yield f"the file {facts['target']}"


KINDS = {"copy": StepKind("copy", "copy the image", _do, _undo, _remains, _resolve)}
