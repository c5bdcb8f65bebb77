"""The layout of verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagetool.report.data import Document
from imagetool.report.text import format_table, safe


def verify(document: Document) -> str:
    """A verdict with its versions; of several images a line each."""
    images: Any = document.tree["images"]
    if len(images) == 1 and "error" not in images[0]:
        return _format_verdict(images[0])
    return "".join(map(_format_line, images))


def _format_line(image: Mapping[str, Any]) -> str:
    """A verdict in one line, with its reasons; or the error."""
    name = image["image"]
    if "error" in image:
        return f"{safe(name)}: unknown: {safe(image['error'].removeprefix(f'{name}: '))}\n"
    return f"{_format_outcome(image)}: {safe('; '.join(image['reasons']))}\n"


def _format_outcome(image: Mapping[str, Any]) -> str:
    holds = "holds" if image["holds"] else "fails"
    return f"{safe(image['image'])}: {image['verdict']} ({image['required']} {holds})"


def _format_verdict(image: Mapping[str, Any]) -> str:
    """A verdict in one line, with the reasons and versions below it."""
    lines = [f"{_format_outcome(image)}\n", *(f"  {safe(text)}\n" for text in image["reasons"])]
    package = f"  {image['package']}" if image["package"] else ""
    rows: list[Sequence[object]] = [
        ("present", image["present"] or "none"),
        ("bound", image["bound"] or "none"),
        ("recorded", image["recorded"] or "none"),
        ("wanted", f"{image['wanted'] or 'none'}{package}"),
        ("required", f"{image['required']}: {image['required_because']}"),
    ]
    return "".join(lines) + format_table(rows, indent="  ")
