"""Verdicts as JUnit XML, one test case each; well-formed whatever text an image contains.

The schema is that of Jenkins' xUnit plugin (junit-10.xsd), which CI systems read. A command whose
document holds verdicts has a function here that names its test cases; all others are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC
from itertools import chain, repeat
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from imagetool.errors import WrongUsage
from imagetool.report.data import Document
from imagetool.report.text import safe, unchecked_files


class _Case(NamedTuple):
    """A test case: it passed, it failed, or (an error) there is no verdict."""

    name: str
    result: str = "passed"
    """passed, failure or error."""
    type: str = ""
    message: str = ""
    text: str = ""
    output: tuple[str, ...] = ()
    """The lines of its standard output."""
    seconds: float | None = None
    """The time that it took, where it was measured."""


def render(document: Document) -> str:
    """Return the XML. Raises WrongUsage for a document without verdicts."""
    command = document.command.replace("-", " ")
    cases_of = _CASES.get(document.command)
    if cases_of is None:
        raise WrongUsage(
            f"the result of `{command}` holds no verdicts: JUnit has no form for it",
            hint="Choose --format json.",
        )
    tree: Mapping[str, Any] = document.tree
    seconds: Any = document.beside.get("seconds") or ()
    cases = [
        case._replace(seconds=time)
        for case, time in zip(cases_of(tree), chain(seconds, repeat(None)), strict=False)
    ]
    if "error" in tree:
        error = tree["error"]
        name = f"imagetool {command}"
        cases.append(_Case(name, "error", "error", error["message"], error["hint"]))
    root = Element("testsuites", name="imagetool")
    suite = SubElement(root, "testsuite", name=f"imagetool {command}")
    started: Any = document.beside.get("started_at")
    if started is not None:
        suite.set("timestamp", f"{started.astimezone(UTC):%Y-%m-%dT%H:%M:%S}")
    for element in (root, suite):
        element.set("tests", str(len(cases)))
        element.set("failures", str(sum(case.result == "failure" for case in cases)))
        element.set("errors", str(sum(case.result == "error" for case in cases)))
        element.set("time", f"{sum(case.seconds or 0.0 for case in cases):.3f}")
    for case in cases:
        _add_case(suite, f"imagetool.{document.command}", case)
    indent(root)
    return tostring(root, encoding="unicode", xml_declaration=False).join(
        ('<?xml version="1.0" encoding="UTF-8"?>\n', "\n")
    )


def _add_case(suite: Element, class_name: str, case: _Case) -> None:
    element = SubElement(suite, "testcase", classname=class_name, name=safe(case.name))
    if case.seconds is not None:
        element.set("time", f"{case.seconds:.3f}")
    if case.result != "passed":
        item = SubElement(element, case.result, type=case.type, message=safe(case.message))
        item.text = safe(case.text)
    if case.output:
        SubElement(element, "system-out").text = "\n".join(map(safe, case.output))


def _verify_cases(tree: Mapping[str, Any]) -> Iterator[_Case]:
    """A case an image: a verdict that does not hold is a failure, an image without one an error."""
    for image in tree["images"]:
        name, outcome = image["image"], image["verdict"]
        if "error" in image:
            result = "failure" if image["exit_code"] == 1 else "error"
            yield _Case(name, result, outcome, image["error"], image["hint"])
            continue
        summary = f"{outcome}: {'; '.join([*image['reasons'], *image['objections']])}"
        guest = image["guest"]
        output = (
            f"verdict {outcome} ({summary})",
            f"present {image['present']}, bound {image['bound']}, recorded {image['recorded']}, "
            f"wanted {image['wanted']}",
            f"wanted from {image['wanted_from']}"
            + (": compared with itself" if image["wanted_from"] == "present" else ""),
            f"guest {guest['product']} {guest['version']}",
            *(["rehearsed: the emulated host wrote this evidence"] if image["rehearsed"] else []),
            *(f"warning: {text}" for text in image["warnings"]),
        )
        required = f"{image['required']} was required: {image['required_because']}"
        result = "passed" if image["holds"] else "failure"
        yield _Case(name, result, outcome, summary, required, output)


def _package_check_cases(tree: Mapping[str, Any]) -> Iterator[_Case]:
    """A case a package: one that is not genuine is a failure, one that is unreadable an error."""
    for package in tree["packages"]:
        name, judgement = package["name"], package["judgement"]
        lines = [
            (item["judgement"], f"{item['subject']}: {item['judgement']}: {item['reason']}")
            for item in package["findings"]
        ]
        rest = tree.get("unchecked_files")
        output = (
            f"package {name} of {tree['package']}",
            *(line for _, line in lines),
            *(() if rest is None else (unchecked_files(rest),)),
        )
        if judgement == "genuine":
            yield _Case(name, output=output)
        else:
            problems = "; ".join(line for kind, line in lines if kind != "genuine")
            result = "error" if judgement == "unreadable" else "failure"
            yield _Case(name, result, judgement, f"{judgement}: {problems}", "", output)


_CASES = {"verify": _verify_cases, "package-check": _package_check_cases}
