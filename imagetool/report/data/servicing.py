"""Trees of the results of `servicing`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagetool.report.data import Document, Tree, builds, error_tree
from imagetool.report.data.package import package_report_tree
from imagetool.report.data.verdict import verification_tree

if TYPE_CHECKING:
    from imagetool.servicing.inject import FailedInjection, Injection, InjectionReport
    from imagetool.servicing.plan import Plan


@builds("servicing.plan.Plan")
def _plan(result: Plan) -> Document:
    return Document("plan", plan_tree(result))


@builds("servicing.inject.Injection")
def _one_injection(result: Injection) -> Document:
    from imagetool.servicing.inject import InjectionReport

    return _injection_report(InjectionReport((result,)))


@builds("servicing.inject.InjectionReport")
def _injection_report(result: InjectionReport) -> Document:
    tree: Tree = {"images": [_injection_tree(item) for item in result.images]}
    return Document("inject", tree | error_tree(result.error))


def plan_tree(plan: Plan) -> Tree:
    """A plan, as it is saved."""
    from imagetool.servicing.steps import step_kind

    image, package = plan.image, plan.package
    identity, read = image.state.identity, image.state.read
    return {
        "image": {
            "name": image.name,
            "location": image.location,
            "path": image.path,
            "size": identity.size,
            "last_written": image.state.last_written,
            "format": identity.format,
            "identifiers": dict(identity.identifiers),
            "read": {"ranges": read.ranges, "sha256": read.sha256},
            "product": image.product,
            "version": image.version,
            "volume": image.volume,
            "partition_offset": image.partition_offset,
            "disk": image.disk._asdict(),
        },
        "package": {**package._asdict(), "members": dict(package.members)},
        "reason": plan.reason,
        "nothing_to_do": plan.nothing_to_do,
        "host": plan.host,
        "output": plan.output,
        "steps": [
            {
                "name": step.name,
                "title": step_kind(step.name).title.format_map(step.facts),
                "facts": step.facts,
            }
            for step in plan.steps
        ],
        "warnings": plan.warnings,
    }


def _injection_tree(result: Injection | FailedInjection) -> Tree:
    from imagetool.servicing.inject import Injection

    steps = [
        {"name": step.name, "started_at": step.started_at, "seconds": round(step.seconds, 3)}
        for step in result.steps
    ]
    tree: Tree = {
        "steps": steps,
        "warnings": result.host_warnings,
        "dism_log": result.dism_log or None,
        "plan": plan_tree(result.plan) if result.plan is not None else None,
    }
    if not isinstance(result, Injection):
        return {"image": result.image, "outcome": "failed"} | tree | error_tree(result.error)
    done, proof = result.proof is not None, result.proof
    found: Tree = {
        "image": result.plan.image.name,
        "outcome": "injected" if done else "nothing to do",
        "output": result.output or None,
        "host": result.host_description or None,
        "emulated": result.emulated,
        "state": result.package_state or None,
        "digests": {"image": result.digests["image"], "output": result.digests["copy"]}
        if result.digests
        else None,
        "signature": package_report_tree(result.signature) if result.signature else None,
        "proof": verification_tree(proof) if proof is not None else None,
    }
    return found | tree
