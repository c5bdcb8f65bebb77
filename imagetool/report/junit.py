"""Verdicts as JUnit XML, one test case per image; well-formed whatever text an image contains.

The schema is that of Apache Ant's JUnit report, which CI systems read.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from imagetool.report.text import safe
from imagetool.verdict.verify import NoVerdict, Verification

VerifyResult = Verification | NoVerdict


def junit_document(results: Sequence[VerifyResult]) -> str:
    """Return the XML: a verdict that does not hold is a failure, an image without one an error."""
    suite = Element("testsuite", name="imagetool verify", tests=str(len(results)))
    failures = errors = 0
    for result in results:
        if isinstance(result, NoVerdict):
            errors += 1
            image, error = result
            case = _add_test_case(suite, image)
            item = SubElement(case, "error", type="unknown", message=safe(error.message))
            item.text = safe(error.hint)
            continue
        case = _add_test_case(suite, result.image)
        verdict = result.verdict
        summary = f"{verdict.outcome.value}: {'; '.join(verdict.reasons)}"
        if not verdict.holds:
            failures += 1
            item = SubElement(case, "failure", type=verdict.outcome.value, message=safe(summary))
            item.text = safe(f"{verdict.required} was required: {verdict.required_because}")
        rows = (
            f"verdict {verdict.outcome.value} ({summary})",
            f"present {verdict.present}, bound {verdict.bound}, recorded {verdict.recorded}, "
            f"wanted {verdict.wanted}",
            f"guest {result.facts.product} {result.facts.version}",
        )
        SubElement(case, "system-out").text = "\n".join(map(safe, rows))
    suite.set("failures", str(failures))
    suite.set("errors", str(errors))
    indent(suite)
    return tostring(suite, encoding="unicode", xml_declaration=False).join(
        ('<?xml version="1.0" encoding="UTF-8"?>\n', "\n")
    )


def _add_test_case(suite: Element, image: str) -> Element:
    return SubElement(suite, "testcase", classname="imagetool.verify", name=safe(image))
