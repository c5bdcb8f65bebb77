"""directory: a private one in the host's temporary directory, for package, log, mount, scratch."""

from __future__ import annotations

from collections.abc import Iterator

from imagetool.contracts import Host
from imagetool.host.files import FileOperations
from imagetool.host.patience import Patience
from imagetool.host.reading import paths
from imagetool.servicing.plan import Facts
from imagetool.servicing.steps import StepKind, Work

LOG_NAME = "dism.log"
SCRATCH_NAME = "s"


def _resolve(work: Work, facts: Facts) -> Facts:
    temporary = work.host.operate("facts").text("temporary")
    path = paths.join(temporary.rstrip("\\/") or temporary, facts["name"], work.host.on_windows)
    names = {"log": LOG_NAME, "scratch": SCRATCH_NAME}
    inside = {key: paths.join(path, name, work.host.on_windows) for key, name in names.items()}
    return {**facts, "path": path, **inside}


def _do(work: Work, facts: Facts) -> None:
    work.files.make_private_directory(facts["path"], own=True)
    work.files.make_directory(facts["scratch"])
    work.directory = facts["path"]


def _undo(host: Host, facts: Facts, patience: Patience) -> None:
    files = FileOperations(host)
    if files.stat(facts["path"]).exists:
        files.delete(facts["log"])
        files.remove_tree(facts["scratch"])
        files.remove_directory(facts["path"])


def _remains(host: Host, facts: Facts) -> Iterator[str]:
    if FileOperations(host).stat(facts["path"]).exists:
        yield f"the directory {facts['path']}"


KINDS = {
    "directory": StepKind(
        "directory",
        "make a private directory on the host",
        _do,
        _undo,
        _remains,
        _resolve,
        scratch=True,
    )
}
