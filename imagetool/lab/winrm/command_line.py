"""Command lines: joined and split by the rules of Windows, and checked for PowerShell."""

from __future__ import annotations

import re
from collections.abc import Sequence

_POWERSHELL_NAMES = {"powershell", "powershell.exe", "pwsh", "pwsh.exe"}

MAX_COMMAND_LINE = 32_766
"""Characters: the limit of CreateProcess."""
MAX_CMD_COMMAND_LINE = 8_191
"""Characters: the limit of cmd.exe, which runs a command without WINRS_SKIP_CMD_SHELL."""


def join(command: str, arguments: Sequence[str]) -> str:
    """Join the elements of a Command request with blanks, as Windows does."""
    return " ".join([command, *arguments])


def split(line: str) -> list[str]:
    """Split a command line as CommandLineToArgvW does: the program's name and its arguments.

    The name ends at its closing quotation mark or at the first blank, and has no backslash escapes.
    In the arguments 2n backslashes before a quotation mark stand for n, and the mark opens or
    closes a quotation; 2n+1 stand for n and a literal mark. Three marks in a row are one literal.
    """
    line = line.lstrip(" \t")
    if not line:
        return []
    if line.startswith('"'):
        name, _, rest = line[1:].partition('"')
    else:
        match = re.fullmatch(r"([^ \t]*)(.*)", line, re.DOTALL)
        name, rest = match.groups()  # type: ignore[union-attr]  # the pattern matches every text
    return [name, *_arguments(rest)]


def _arguments(text: str) -> list[str]:
    found: list[str] = []
    out: list[str] = []
    begun = False
    marks = backslashes = position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character in " \t" and marks == 0:
            if begun:
                found.append("".join(out))
            out, begun, backslashes = [], False, 0
            continue
        begun = True
        if character != '"':
            out.append(character)
            backslashes = backslashes + 1 if character == "\\" else 0
            continue
        escaped = backslashes % 2
        del out[len(out) - backslashes // 2 - escaped :]
        backslashes = 0
        if escaped:
            out.append('"')
        else:
            marks += 1
        while text[position : position + 1] == '"':
            position += 1
            marks += 1
            if marks == 3:
                out.append('"')
                marks = 0
        if marks == 2:
            marks = 0
    return [*found, "".join(out)] if begun else found


def powershell_arguments(line: str) -> list[str] | None:
    """Return PowerShell's arguments, or None where the program is another."""
    name, *arguments = split(line) or [""]
    return arguments if re.split(r"[\\/]", name)[-1].lower() in _POWERSHELL_NAMES else None


def not_recognized_message(line: str) -> str:
    """Return cmd.exe's message for a program that it does not find."""
    name = re.match(r'"[^"]*"?|[^ \t]*', line.strip())
    return (
        f"'{name[0] if name else ''}' is not recognized as an internal or external command,\r\n"
        "operable program or batch file.\r\n"
    )
