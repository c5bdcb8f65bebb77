"""digest: the SHA-256 of the image and of the serviced copy, by the host's own hashing."""

from __future__ import annotations

from imagetool.servicing.plan import Facts
from imagetool.servicing.steps import StepKind, Work


def _do(work: Work, facts: Facts) -> None:
    for name in ("image", "copy"):
        work.digests[name] = work.files.sha256(facts[name], work.on_event)


KINDS = {"digest": StepKind("digest", "hash the image and the copy on the host", _do)}
