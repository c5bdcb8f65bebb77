"""Trees of the results of `servicing`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagetool.report.data import Document, Tree, builds
from imagetool.report.data.package import package_report_tree
from imagetool.report.data.verdict import verification_tree

if TYPE_CHECKING:
    from imagetool.servicing.inject import Injection


@builds("servicing.inject.Injection")
def _injection(result: Injection) -> Document:
    plan, proof = result.plan, result.proof
    tree: Tree = {
        "image": plan.image,
        "package": plan.media,
        "identity": plan.identity,
        "reason": plan.reason,
        "output": result.output or None,
        "host": result.host_description or None,
        "state": result.package_state or None,
        "signature": package_report_tree(plan.signature) if plan.signature is not None else None,
        "proof": verification_tree(proof) if proof is not None else None,
    }
    return Document("inject", tree)
