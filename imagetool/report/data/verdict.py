"""Trees of the results of `verdict`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagetool.report.data import Document, Tree, builds, error_tree
from imagetool.report.data.guest import components_tree, facts_tree

if TYPE_CHECKING:
    from imagetool.verdict.verify import NoVerdict, Verification, VerificationReport


@builds("verdict.verify.Verification")
def _one_verification(result: Verification) -> Document:
    from imagetool.verdict.verify import VerificationReport

    return _verification_report(VerificationReport((result,)))


@builds("verdict.verify.VerificationReport")
def _verification_report(result: VerificationReport) -> Document:
    summary = result.summary
    tree: Tree = {
        "images": [verification_tree(item) for item in result.images],
        "summary": {
            "judged": summary.judged,
            "hold": summary.hold,
            "fail": summary.fail,
            "unreadable": summary.unreadable,
        },
    }
    beside: Tree = {"started_at": result.started_at, "seconds": result.seconds}
    return Document("verify", tree | error_tree(result.error), beside)


def verification_tree(result: Verification | NoVerdict) -> Tree:
    """A verdict with its evidence, or the error of an image without one."""
    from imagetool.errors import DoesNotApply
    from imagetool.verdict.verify import NoVerdict

    if isinstance(result, NoVerdict):
        return {
            "image": result.image,
            "verdict": "does not apply" if isinstance(result.error, DoesNotApply) else "unknown",
            "holds": False,
            "error": result.error.message,
            "hint": result.error.hint,
            "exit_code": result.error.exit_code,
        }
    verdict = result.verdict
    return {
        "image": result.image,
        "verdict": verdict.outcome.value,
        "holds": result.holds,
        "objections": result.objections,
        "required": verdict.required,
        "required_because": verdict.required_because,
        "installed": verdict.installed,
        "confirmed": verdict.confirmed,
        "reasons": verdict.reasons,
        "present": verdict.present,
        "bound": verdict.bound,
        "recorded": verdict.recorded,
        "wanted": verdict.wanted,
        "wanted_from": result.wanted.origin.value,
        "package": result.wanted.package,
        "rehearsed": result.rehearsed,
        "strict": result.criteria.strict,
        "guest": facts_tree(result.facts),
        "evidence": components_tree(result.components),
        "warnings": result.warnings,
    }
