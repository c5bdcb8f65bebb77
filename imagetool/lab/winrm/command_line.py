"""A command line as Windows takes it apart, and what of it this endpoint runs."""

from __future__ import annotations

import re
from collections.abc import Sequence

_POWERSHELL_NAMES = {"powershell", "powershell.exe", "pwsh", "pwsh.exe"}

MAX_COMMAND_LINE = 32_766
"""Characters that CreateProcess takes."""
MAX_CMD_COMMAND_LINE = 8_191
"""Characters that cmd.exe takes, through which a command goes unless it asks not to."""


def join(command: str, arguments: Sequence[str]) -> str:
    """The line that Windows starts: the elements of the request, blanks between them."""
    return " ".join([command, *arguments])


def split(line: str) -> list[str]:
    """The arguments of a command line, as CommandLineToArgvW finds them.

    The program's name ends at its closing quotation mark or at the first blank, and knows no
    backslash escapes. In the arguments 2n backslashes before a quotation mark are n of them, and
    the mark opens or closes; 2n+1 are n and a mark as such. Three marks in a row are one.
    """
    line = line.lstrip(" \t")
    if not line:
        return []
    if line.startswith('"'):
        name, _, rest = line[1:].partition('"')
    else:
        # Every text matches.
        name, rest = re.fullmatch(r"([^ \t]*)(.*)", line, re.DOTALL).groups()  # type: ignore[union-attr]
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
    """The arguments for the PowerShell engine, or None where the program is another."""
    name, *arguments = split(line) or [""]
    return arguments if re.split(r"[\\/]", name)[-1].lower() in _POWERSHELL_NAMES else None


def not_recognized_message(line: str) -> str:
    """What cmd.exe says of a program that it does not find."""
    name = re.match(r'"[^"]*"?|[^ \t]*', line.strip())
    return (
        f"'{name[0] if name else ''}' is not recognized as an internal or external command,\r\n"
        "operable program or batch file.\r\n"
    )
