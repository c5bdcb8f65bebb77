"""Standard output and standard error that are closed or full, or whose reader is gone.

Every command in a process of its own, where nothing stands between the program and the system.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from imagetool.cli.app import build_program
from tests.program import command_line

AUTO = "HKLM\\SOFTWARE\\Microsoft\\Virtual Machine\\Auto"
SILENT = {"file extract", "package extract", "disk export", "host login", "host logout"}
"""These say nothing on standard output."""
LATER = {"plan", "rollback", "discard", "recover", "service", "advise", "guest-service"}
LATER |= {"setup-disk"}


@pytest.fixture
def commands(template: Path, disc: Path, tmp_path: Path) -> dict[str, list[str]]:
    """A command line for every command that writes to standard output."""
    booted = str(shutil.copyfile(template, tmp_path / "booted.vhdx"))
    image, package = str(template), str(disc)
    output = str(tmp_path / "serviced.vhdx")
    return {
        "inspect": ["inspect", image],
        "verify": ["verify", image, "--format", "json"],
        "registry get": ["registry", "get", image, AUTO, "IntegrationServicesVersion"],
        "registry list": ["registry", "list", image, AUTO],
        "file list": ["file", "list", image],
        "file read": ["file", "read", image, "Windows/System32/config/SYSTEM"],
        "disk map": ["disk", "map", image],
        "package show": ["package", "show", package],
        "package list": ["package", "list", package],
        "package check": ["package", "check", package],
        "inject": [
            *("inject", image, "--package", package, "--allow-unsigned"),
            *("--host", "lab", "--output", output),
        ],
        "host check": ["host", "check", "lab"],
        "lab boot": ["lab", "boot", booted, "--force"],
        "lab serve": ["lab", "serve"],
        "lab status": ["lab", "status"],
        "lab reset": ["lab", "reset"],
        "schema": ["schema", "verify"],
        "--help": ["--help"],
        "--version": ["--version"],
    }


def start(arguments: list[str], redirection: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["sh", "-c", f"exec {shlex.join(command_line(*arguments))} {redirection}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
        | environment,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def leaves(command: object, *names: str) -> set[str]:
    """Every command below this one that is no group."""
    below = getattr(command, "commands", None)
    if below is None:
        return {" ".join(names)}
    return set().union(*(leaves(item, *names, name) for name, item in below.items()))


def test_every_command_is_tried(commands: dict[str, list[str]]) -> None:
    everything = leaves(typer.main.get_command(build_program([])))
    tried = {name for name in commands if not name.startswith("-")}
    assert everything == tried | SILENT | LATER


@pytest.mark.usefixtures("writers")
@pytest.mark.parametrize(
    ("redirection", "words"),
    [(">&-", "standard output is closed"), (">/dev/full", "No space left on device")],
    ids=["closed", "full"],
)
def test_an_output_that_cannot_be_written_is_exit_code_7_and_one_sentence(
    commands: dict[str, list[str]], engine: str, redirection: str, words: str
) -> None:
    path = f"{Path(engine).parent}{os.pathsep}{os.environ['PATH']}"
    started = {
        name: start(arguments, redirection, PATH=path, IMAGETOOL_LAB_ENGINE="python")
        for name, arguments in commands.items()
    }
    ended = {name: finish(process) for name, process in started.items()}
    for name, (code, _, said) in ended.items():
        assert code == 7, (name, said)
        complaint, hint = said.splitlines()[-2:]
        assert complaint.startswith("imagetool: standard output "), (name, said)
        assert words in complaint, name
        assert hint.startswith("hint: "), name
        if name != "inject":  # whose steps come before
            assert len(said.splitlines()) == 2, (name, said)


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full", ">&- 2>/dev/full", "<&- >&- 2>&-"])
def test_python_adds_nothing_where_it_does_not_buffer(
    commands: dict[str, list[str]], redirection: str
) -> None:
    for name in ("verify", "file read", "--version"):
        code, _, said = finish(start(commands[name], redirection, PYTHONUNBUFFERED="1"))
        assert code == 7, (name, said)
        assert len(said.splitlines()) == (0 if "2>" in redirection else 2), (name, said)


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_a_standard_error_that_cannot_be_written_changes_nothing(
    commands: dict[str, list[str]], tmp_path: Path, redirection: str
) -> None:
    code, out, said = finish(start(commands["registry get"], redirection))
    assert (code, out, said) == (0, "6.3.9600.16384\n", "")
    assert finish(start(["verify", str(tmp_path / "none")], redirection))[0] == 3
    assert finish(start(["nonsense"], redirection))[0] == 2


def test_a_failure_after_some_output_keeps_its_own_exit_code(
    template: Path, tmp_path: Path
) -> None:
    code, _, said = finish(start(["inspect", str(tmp_path / "none")], ">/dev/full"))
    assert code == 3
    assert len(said.splitlines()) == 2


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
def test_a_command_that_says_nothing_there_needs_no_output(
    template: Path, disc: Path, tmp_path: Path, redirection: str
) -> None:
    for command in (
        ["file", "extract", str(template), "Windows/System32/config/SYSTEM", f"{tmp_path}/SYSTEM"],
        ["package", "extract", str(disc), f"{tmp_path}/package"],
        ["disk", "export", str(template), f"{tmp_path}/raw"],
    ):
        assert " ".join(command[:2]) in SILENT
        code, _, said = finish(start(command, redirection))
        assert code == 0, said
        assert "Traceback" not in said
        assert "Exception" not in said


@pytest.mark.parametrize("name", ["verify", "file read", "package show", "--help"])
def test_a_reader_that_goes_is_no_failure(commands: dict[str, list[str]], name: str) -> None:
    process = start(commands[name], "")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    assert finish(process)[::2] == (0, "")


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (1, ["verify", "{image}", "--at-least", "9.0.0.0"]),
        (1, ["verify", "{image}", "{image}", "--at-least", "9.0.0.0"]),
        (1, ["verify", "{image}", "--at-least", "9.0.0.0", "--format", "junit"]),
        (3, ["verify", "{none}", "{image}"]),
        (3, ["inspect", "{none}", "{image}"]),
        (3, ["inspect", "{none}", "{image}", "--format", "json"]),
        (1, ["package", "check", "{disc}"]),
        (2, ["verify", "{image}", "--at-least", "new", "--format", "json"]),
        (4, ["host", "check", "http://127.0.0.1:1"]),
    ],
)
def test_a_reader_that_goes_turns_no_failing_gate_green(
    template: Path, disc: Path, tmp_path: Path, code: int, arguments: list[str]
) -> None:
    names = {"image": template, "disc": disc, "none": tmp_path / "none"}
    process = start([item.format(**names) for item in arguments], "")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    found, _, said = finish(process)
    assert found == code, said
    assert "Broken pipe" not in said
    assert "Traceback" not in said
