"""Text for a terminal: escaped control characters, aligned tables, times and sizes.

The layout of a command's document is the function of that name in the module that `_LAYOUTS` says;
a document without one is written as an indented list of its tree.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib import import_module
from typing import Any

from imagetool.report.data import Document

_LAYOUTS = {
    "disk-map": "disk",
    "file-list": "contents",
    "host-check": "host",
    "inject": "servicing",
    "inspect": "guest",
    "package-check": "package",
    "package-list": "package",
    "package-show": "package",
    "plan": "servicing",
    "registry-get": "contents",
    "registry-list": "contents",
    "verify": "verdict",
}
"""The module of this folder that has the layout of a command."""

_LINE_FEED = "\n"
_ESCAPED_CATEGORIES = ("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp")


def render(document: Document) -> str:
    """Return a document as text, by the layout of its command."""
    module = _LAYOUTS.get(document.command)
    if module is None:
        return format_tree(document.tree)
    layout = getattr(
        import_module(f"imagetool.report.text.{module}"), document.command.replace("-", "_")
    )
    text: str = layout(document)
    error: Any = document.tree.get("error")
    if error is None or document.beside.get("errors_said"):
        return text
    return f"{text}error: {safe(error['message'])}\nhint: {safe(error['hint'])}\n"


def safe(value: object, *, keep_line_feeds: bool = False) -> str:
    """Return text that is safe to print: no control characters, no bidirectional marks.

    Characters of the categories Cc, Cf, Co, Cn, Zl and Zp become \\x or \\u escapes, and so do lone
    surrogates. Line feeds are kept with `keep_line_feeds`.
    """
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_safe_character(char, keep_line_feeds) for char in text)


def _safe_character(char: str, keep_line_feeds: bool) -> str:
    if keep_line_feeds and char == _LINE_FEED:
        return char
    category = unicodedata.category(char)
    if category in _ESCAPED_CATEGORIES:
        code = ord(char)
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    return char


def unchecked_files(count: int) -> str:
    """What is said of the files of a disc that are no package, in every format for people."""
    return f"nothing is said of the other files that were seen there ({count}), nor of the disc"


def format_table(rows: Iterable[Sequence[object]], indent: str = "") -> str:
    """Return rows with aligned columns, a line each; the last cell of a row is not padded."""
    cells = [[safe(cell) for cell in row] for row in rows]
    if not cells:
        return ""
    columns = max(map(len, cells))
    widths = [
        max((len(row[column]) for row in cells if len(row) > column + 1), default=0)
        for column in range(columns)
    ]
    return "".join(
        indent
        + "  ".join(
            cell.ljust(widths[index]) if index + 1 < len(row) else cell
            for index, cell in enumerate(row)
        ).rstrip()
        + "\n"
        for row in cells
    )


def format_time(value: datetime | None) -> str:
    """Return a time in UTC: 2024-01-31 12:00:00 UTC; empty for None."""
    return "" if value is None else value.strftime("%Y-%m-%d %H:%M:%S UTC")


def format_size(value: int) -> str:
    """Return a size in bytes with a binary unit: 68.0 MiB."""
    number = float(value)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            return f"{value} bytes" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    raise AssertionError


def format_tree(tree: Mapping[str, Any], indent: str = "") -> str:
    """Return a tree as lines of names and values; what a name holds is indented below it."""
    lines = []
    for name, value in tree.items():
        # A version is a tuple as well, and a plain value.
        for item in value if type(value) in (list, tuple) else [value]:
            if isinstance(item, Mapping):
                lines.append(f"{indent}{safe(name)}\n{format_tree(item, f'{indent}  ')}")
            else:
                lines.append(format_table([(name, _format_value(item))], indent))
    return "".join(lines)


def _format_value(value: object) -> object:
    """A plain value for people; versions and identities are text already."""
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if type(value) in (list, tuple):
        return ", ".join(str(_format_value(item)) for item in value)  # type: ignore[attr-defined]  # an `object`
    return "none" if value is None else value
