"""publish: the copy gets its name. A file that has the name by then is left alone.

A renamed file keeps size and time: by these its undoing knows the copy from a file of others.
"""

from __future__ import annotations

from collections.abc import Iterator

from imagetool.contracts import Host
from imagetool.errors import CannotWrite
from imagetool.host.files import FileOperations
from imagetool.host.patience import Patience
from imagetool.servicing.plan import Facts
from imagetool.servicing.steps import StepKind, Work


def _resolve(work: Work, facts: Facts) -> Facts:
    state = work.files.stat(facts["source"])
    written = state.last_written.isoformat() if state.last_written is not None else None
    return {**facts, "size": state.size, "last_written": written}


def _do(work: Work, facts: Facts) -> None:
    if work.files.stat(facts["target"]).exists:
        raise CannotWrite(
            f"{facts['target']}: meanwhile there is a file of that name", hint="Name another."
        )
    work.files.rename(facts["source"], facts["target"])


def _undo(host: Host, facts: Facts, patience: Patience) -> None:
    """Give the copy its former name, if it was renamed; the step that made it deletes it."""
    files = FileOperations(host)
    if _was_renamed(files, facts):
        files.rename(facts["target"], facts["source"])


def _was_renamed(files: FileOperations, facts: Facts) -> bool:
    if files.stat(facts["source"]).exists:
        return False
    found = files.stat(facts["target"])
    written = found.last_written.isoformat() if found.last_written is not None else None
    return found.exists and (found.size, written) == (facts["size"], facts["last_written"])


def _remains(host: Host, facts: Facts) -> Iterator[str]:
    if _was_renamed(FileOperations(host), facts):
        yield f"the file {facts['target']}"


KINDS = {
    "publish": StepKind(
        "publish", "give the result its name", _do, _undo, _remains, _resolve, ends_the_work=True
    )
}
