"""The program as the tests run it: in this process, or in one of its own where that is tested."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import typer

from imagetool import connection
from imagetool.cli.app import answer, build_program


class Outcome(NamedTuple):
    """What a command line wrote, and its exit code."""

    code: int
    out: bytes
    err: str


def invoke(*arguments: object) -> Outcome:
    """Run a command line in this process."""
    connection._credentials.cache_clear()  # as a new process, it knows no password
    written, complaints = io.BytesIO(), io.StringIO()
    out = io.TextIOWrapper(written, encoding="utf-8", errors="backslashreplace", newline="\n")
    with redirect_stdout(out), redirect_stderr(complaints):
        code = answer([text(argument) for argument in arguments])
    out.flush()
    return Outcome(code, written.getvalue(), complaints.getvalue())


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The exit code of a command line and what it wrote; never a traceback."""
    with contextlib.chdir(cwd) if cwd is not None else contextlib.nullcontext():
        code, out, err = invoke(*arguments)
    assert "Traceback" not in err, err
    check_hints(arguments, err)
    return subprocess.CompletedProcess(arguments, code, out.decode(), err)


OTHERS_COMMAND = re.compile(r"`[^`]*`")


def check_hints(arguments: tuple[object, ...], complaints: str) -> None:
    """A hint names no option that the command which gives it does not have."""
    for line in complaints.splitlines():
        if line.startswith("hint: ") and ONLY_READING not in line:
            named = re.findall(r"--[a-z][a-z-]+", OTHERS_COMMAND.sub("", line))
            unknown = set(named) - command_options(tuple(map(text, arguments)))
            assert not unknown, f"{arguments}: {line}"


ONLY_READING = "commands that only read an image"
"""The words of a hint that says itself whose option it names."""


def command_options(arguments: tuple[str, ...]) -> set[str]:
    """The options of the command that a command line names, and the program's own."""
    command: Any = typer.main.get_command(build_program(arguments))
    options = {name for item in command.params for name in item.opts}
    for name in arguments:
        found = getattr(command, "commands", {}).get(name)
        if found is not None:
            command = found
            options |= {option for item in command.params for option in item.opts}
    return options


def refused(code: int, *arguments: object) -> str:
    """The sentence of a failure with that exit code; its hint follows."""
    done = run(*arguments)
    assert done.returncode == code, done.stderr + done.stdout
    lines = done.stderr.splitlines()
    assert lines[0].startswith("imagetool: ")
    assert all(line.startswith(("imagetool: ", "hint: ")) for line in lines)
    return lines[0]


def command_line(*arguments: object) -> list[str]:
    """The command line of a process that runs the program."""
    return [sys.executable, "-m", "imagetool", *map(text, arguments)]


def text(argument: object) -> str:
    return argument if isinstance(argument, str) else os.fspath(argument)  # type: ignore[arg-type]
