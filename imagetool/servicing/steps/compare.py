"""compare: the image itself is looked at again, before the result gets its name."""

from __future__ import annotations

from imagetool.contracts import Host
from imagetool.errors import HostFailed, ServicingFailed, Unreadable
from imagetool.host.files import FileOperations
from imagetool.host.reading import HostFiles
from imagetool.servicing.image_state import difference
from imagetool.servicing.plan import Facts
from imagetool.servicing.steps import StepKind, Work


def _resolve(work: Work, facts: Facts) -> Facts:
    state = work.plan.image.state
    return {**facts, "size": state.identity.size, "read_sha256": state.read.sha256}


def _do(work: Work, facts: Facts) -> None:
    found = changed(work.host, work, facts["image"])
    if found:
        raise ServicingFailed(
            f"{work.plan.image.name}: the image changed while it was serviced: {found}",
            hint="Somebody else writes to it: wait until that is done, then try again.",
        )


def changed(host: Host, work: Work, path: str) -> str:
    """Return what of the image is not as before the work, in words. Raises HostFailed.

    What no reader asked for shows in the time of the last write alone.
    """
    try:
        found = difference(HostFiles(host), path, work.plan.image.state)
    except HostFailed:
        raise
    except Unreadable as error:
        return f"it cannot be read any more: {error.message}"
    written = FileOperations(host).stat(path).last_written
    if not found and written != work.image_written:
        return f"it was written at {written}, and before at {work.image_written}"
    return found


KINDS = {"compare": StepKind("compare", "look at the image again", _do, resolve=_resolve)}
