"""stage: the package goes into the private directory on the host."""

from __future__ import annotations

from collections.abc import Iterator

from imagetool.contracts import Host
from imagetool.host.files import FileOperations
from imagetool.host.patience import Patience
from imagetool.host.reading import paths
from imagetool.servicing.plan import Facts
from imagetool.servicing.steps import StepKind, Work

PACKAGE_NAME = "package.cab"


def _resolve(work: Work, facts: Facts) -> Facts:
    return {**facts, "path": paths.join(work.directory, PACKAGE_NAME, work.host.on_windows)}


def _do(work: Work, facts: Facts) -> None:
    work.files.upload(work.payload.data, facts["path"])


def _undo(host: Host, facts: Facts, patience: Patience) -> None:
    for path in _paths(facts):
        FileOperations(host).delete(path)


def _remains(host: Host, facts: Facts) -> Iterator[str]:
    for path in _paths(facts):
        if FileOperations(host).stat(path).exists:
            yield f"the file {path}"


def _paths(facts: Facts) -> tuple[str, str]:
    return facts["path"], FileOperations.part_of(facts["path"])


KINDS = {
    "stage": StepKind(
        "stage", "stage the package on the host", _do, _undo, _remains, _resolve, scratch=True
    )
}
