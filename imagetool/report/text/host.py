"""The layout of the check of a host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagetool.report.data import Document
from imagetool.report.text import format_table, safe


def host_check(document: Document) -> str:
    """A line for each fact, with the advice below it."""
    tree: Mapping[str, Any] = document.tree
    text = _format_findings(tree["facts"])
    if "self_test" in tree:
        text += (
            f"\nself-test of imagetool {tree['imagetool']}; names of computers, users, domains and "
            "paths are taken out\n" + _format_findings(tree["self_test"])
        )
    return text


def _format_findings(findings: Sequence[Mapping[str, Any]]) -> str:
    rows = ((item["state"], item["name"], item["found"]) for item in findings)
    lines = []
    for item, line in zip(findings, format_table(rows).splitlines(), strict=True):
        lines.append(line)
        if item["advice"]:
            lines.append(f"        {safe(item['advice'])}")
    return "".join(f"{line}\n" for line in lines)
