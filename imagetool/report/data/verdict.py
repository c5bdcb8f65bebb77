"""Trees of the results of `verdict`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagetool.report.data import Document, Tree, builds
from imagetool.report.data.guest import components_tree, facts_tree

if TYPE_CHECKING:
    from imagetool.verdict.verify import NoVerdict, Verification, VerificationReport


@builds("verdict.verify.Verification")
def _one_verification(result: Verification) -> Document:
    return Document("verify", {"images": [verification_tree(result)]})


@builds("verdict.verify.VerificationReport")
def _verification_report(result: VerificationReport) -> Document:
    return Document("verify", {"images": [verification_tree(item) for item in result.images]})


def verification_tree(result: Verification | NoVerdict) -> Tree:
    """A verdict with its evidence, or the error of an image without one."""
    from imagetool.verdict.verify import NoVerdict

    if isinstance(result, NoVerdict):
        return {
            "image": result.image,
            "verdict": "unknown",
            "holds": False,
            "error": result.error.message,
            "hint": result.error.hint,
            "exit_code": result.error.exit_code,
        }
    verdict = result.verdict
    return {
        "image": result.image,
        "verdict": verdict.outcome.value,
        "holds": verdict.holds,
        "required": verdict.required,
        "required_because": verdict.required_because,
        "installed": verdict.installed,
        "confirmed": verdict.confirmed,
        "reasons": verdict.reasons,
        "present": verdict.present,
        "bound": verdict.bound,
        "recorded": verdict.recorded,
        "wanted": verdict.wanted,
        "package": result.package,
        "guest": facts_tree(result.facts),
        "evidence": components_tree(result.components),
        "warnings": result.warnings,
    }
