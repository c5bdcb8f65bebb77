"""The layout of verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagetool.report.data import Document
from imagetool.report.text import format_table, safe

_SELF_COMPARISON = "no version was asked for: compared with itself"


def verify(document: Document) -> str:
    """A verdict with its versions; of several images a line each, and a summary."""
    images: Any = document.tree["images"]
    if len(images) == 1 and "error" not in images[0]:
        return _format_verdict(images[0])
    errors_said = bool(document.beside.get("errors_said"))
    lines = "".join(_format_line(image, errors_said) for image in images)
    return lines + _format_summary(document.tree["summary"]) if len(images) > 1 else lines


def _format_summary(summary: Any) -> str:
    unreadable = summary["unreadable"]
    return (
        f"{summary['judged']} judged: {summary['hold']} hold, {summary['fail']} fail; "
        f"{unreadable} could not be read\n"
    )


def _format_line(image: Mapping[str, Any], errors_said: bool) -> str:
    """A verdict in one line, with its reasons, and a line a warning; or the error."""
    name = image["image"]
    if "error" in image and errors_said:
        return f"{safe(name)}: {image['verdict']}\n"
    if "error" in image:
        text = image["error"].removeprefix(f"{name}: ")
        return f"{safe(name)}: {image['verdict']}: {safe(text)}\n"
    reasons = [*image["reasons"], *image["objections"]]
    if image["wanted_from"] == "present":
        reasons.append(_SELF_COMPARISON)
    warnings = "".join(f"  warning: {safe(text)}\n" for text in image["warnings"])
    return f"{_format_outcome(image)}: {safe('; '.join(reasons))}\n{warnings}"


def _format_outcome(image: Mapping[str, Any]) -> str:
    """The verdict, and whether it holds: the requirement that fails, or else what objects."""
    required = image["required"]
    if image["holds"]:
        result = f"{required} holds{', rehearsed' if image['rehearsed'] else ''}"
    elif not image[required]:
        result = f"{required} fails"
    else:
        result = f"fails: {', '.join(text.partition(':')[0] for text in image['objections'])}"
    return f"{safe(image['image'])}: {image['verdict']} ({result})"


def _format_verdict(image: Mapping[str, Any]) -> str:
    """A verdict in one line, with the reasons, versions and warnings below it."""
    reasons = [*image["reasons"], *image["objections"]]
    lines = [f"{_format_outcome(image)}\n", *(f"  {safe(text)}\n" for text in reasons)]
    origin = image["package"]
    if image["wanted_from"] == "present":
        origin = _SELF_COMPARISON
    rows: list[Sequence[object]] = [
        ("present", image["present"] or "none"),
        ("bound", image["bound"] or "none"),
        ("recorded", image["recorded"] or "none"),
        ("wanted", f"{image['wanted'] or 'none'}{f'  {origin}' if origin else ''}"),
        ("required", f"{image['required']}: {image['required_because']}"),
    ]
    rows += [("warning", text) for text in image["warnings"]]
    return "".join(lines) + format_table(rows, indent="  ")
