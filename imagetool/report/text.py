"""Text for a terminal: escaped control characters, aligned tables, times and sizes."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime

_LINE_FEED = "\n"
_ESCAPED_CATEGORIES = ("Cc", "Cf", "Co", "Cn", "Zl", "Zp")


def safe(value: object, *, keep_line_feeds: bool = False) -> str:
    """Return text that is safe to print: no control characters, no bidirectional marks.

    Characters of the categories Cc, Cf, Co, Cn, Zl and Zp become \\x or \\u escapes, lone
    surrogates U+FFFD. Line feeds are kept with `keep_line_feeds`.
    """
    text = str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_safe_character(char, keep_line_feeds) for char in text)


def _safe_character(char: str, keep_line_feeds: bool) -> str:
    if keep_line_feeds and char == _LINE_FEED:
        return char
    category = unicodedata.category(char)
    if category == "Cs":
        return "\ufffd"
    if category in _ESCAPED_CATEGORIES:
        code = ord(char)
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    return char


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
