"""The layouts of directories and of the registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagetool.registry.values import format_data
from imagetool.report.data import Document
from imagetool.report.text import format_table, format_time, safe


def file_list(document: Document) -> str:
    """A line for each entry: time, size, name."""
    entries: Any = document.tree["entries"]
    return format_table(
        (
            format_time(entry["modified"]),
            f"{'' if entry['directory'] else entry['size']:>12}",
            f"{entry['name']}{'/' if entry['directory'] else ''}",
        )
        for entry in entries
    )


def registry_get(document: Document) -> str:
    """The data alone; a list has a line for each item."""
    data: Any = document.tree["data"]
    return f"{safe(format_data(data), keep_line_feeds=True)}\n"


def registry_list(document: Document) -> str:
    """A line for each subkey, then one for each value."""
    tree: Mapping[str, Any] = document.tree
    rows = [
        (f"{item['name']}\\", "", format_time(item["last_written"])) for item in tree["subkeys"]
    ]
    rows += [
        (item["name"] or "(default)", item["type"], format_data(item["data"]))
        for item in tree["values"]
    ]
    return format_table(rows)
