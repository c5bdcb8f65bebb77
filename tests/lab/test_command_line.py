"""Command lines as Windows takes them apart; the expectations are those of the documentation of
CommandLineToArgvW, which differs from the newer C runtimes in two marks within a quotation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagetool.lab.winrm.command_line import (
    join,
    not_recognized_message,
    powershell_arguments,
    split,
)


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        (r'x "a b c" d e', ["a b c", "d", "e"]),
        (r'x "ab\"c" "\\" d', ['ab"c', "\\", "d"]),
        (r'x a\\\b d"e f"g h', [r"a\\\b", "de fg", "h"]),
        (r"x a\\\"b c d", [r"a\"b", "c", "d"]),
        (r'x a\\\\"b c" d e', [r"a\\b c", "d", "e"]),
        (r'x a"b"" c d', ['ab"', "c", "d"]),
        ('x "" a', ["", "a"]),
        ("x  a\t b ", ["a", "b"]),
        ("x", []),
        (r"x c:\dir\ y", ["c:\\dir\\", "y"]),
    ],
)
def test_arguments_are_found_as_windows_finds_them(line: str, arguments: list[str]) -> None:
    assert split(line) == ["x", *arguments]


def test_the_name_knows_no_escapes() -> None:
    assert split(r'"C:\a b\"c d') == ["C:\\a b\\", "c", "d"]
    assert split(r"C:\a\b.exe -x") == [r"C:\a\b.exe", "-x"]
    assert split("  ") == []


def quoted(argument: str) -> str:
    """One argument as subprocess.list2cmdline writes it, always in quotation marks."""
    out, backslashes = [], 0
    for character in argument:
        if character == "\\":
            backslashes += 1
            continue
        out.append("\\" * (backslashes * 2 + 1 if character == '"' else backslashes) + character)
        backslashes = 0
    return '"' + "".join(out) + "\\" * (backslashes * 2) + '"'


@given(st.lists(st.text(alphabet='ab \t\\"é', max_size=12), max_size=5))
def test_what_was_quoted_comes_back(arguments: list[str]) -> None:
    assert split(join("x", [quoted(argument) for argument in arguments])) == ["x", *arguments]


@given(st.text(alphabet='ab \\"', max_size=40))
def test_every_line_can_be_split(line: str) -> None:
    split(line)


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("PowerShell -Command 1", ["-Command", "1"]),
        (r'"C:\Program Files\PowerShell\7\pwsh.exe" -NoProfile', ["-NoProfile"]),
        ("/usr/bin/pwsh", []),
        ("powershell_ise.exe", None),
        ("cmd /c powershell", None),
        ("", None),
    ],
)
def test_only_the_engine_runs(line: str, arguments: list[str] | None) -> None:
    assert powershell_arguments(line) == arguments


def test_the_rest_is_not_recognized_by_its_name() -> None:
    assert not_recognized_message("foo.exe /x").startswith("'foo.exe' is not recognized")
    assert not_recognized_message('"a b" c').startswith("'\"a b\"' is not recognized")
