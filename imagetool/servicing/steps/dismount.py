"""dismount: the access path goes, then the disk; the copy is a file like any other again."""

from __future__ import annotations

from imagetool.servicing.plan import Facts
from imagetool.servicing.steps import StepKind, Work, access_path, mount


def _do(work: Work, facts: Facts) -> None:
    access_path.undo(work.host, facts, work.patience)
    mount.undo(work.host, facts, work.patience)


KINDS = {"dismount": StepKind("dismount", "dismount", _do, resolve=access_path.resolve)}
