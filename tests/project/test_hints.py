"""What a message tells people to type exists: commands, and options."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from imagetool.cli.app import build_program
from tests.program import run

PACKAGE = Path(__file__).resolve().parents[2] / "imagetool"


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command of the program by its whole name, groups among them."""
    yield name, command
    for part, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{name} {part}".strip())


PROGRAM = dict(commands(typer.main.get_command(build_program([]))))
OPTIONS = {option for item in PROGRAM.values() for param in item.params for option in param.opts}
OPTIONS |= {"--help", "-h"}


def sentences() -> Iterator[tuple[str, str]]:
    """Every text of the code that is no docstring, and where it stands."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            where = f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else "…" for p in node.values]
                yield where, "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and id(node) not in docstrings:
                yield where, str(node.value)


def test_every_command_that_a_message_names_exists_and_is_no_later_one() -> None:
    seen = 0
    for where, text in sentences():
        for quoted in re.findall(r"`imagetool ([a-z][^`]*)`", text):
            words = [word for word in quoted.split() if re.fullmatch("[a-z-]+", word)]
            name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in PROGRAM), "")
            assert name, f"{where}: `imagetool {quoted}`"
            command = PROGRAM[name]
            assert not getattr(command, "commands", {}), f"{where}: {name} needs a command"
            assert not (command.help or "").startswith("Later"), f"{where}: {name} comes later"
            own = {"--help"} | {option for param in command.params for option in param.opts}
            assert set(re.findall(r"--[a-z-]+", quoted)) <= own, f"{where}: `imagetool {quoted}`"
            seen += 1
    assert seen > 15


def test_every_option_that_a_message_names_exists() -> None:
    for where, text in sentences():
        if where.startswith("cli/planned.py"):
            continue  # their examples
        unknown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+\b", text)) - OPTIONS
        assert not unknown, f"{where}: {unknown}"


def test_a_hint_names_options_of_its_own_command_only(
    testdata: Path, tmp_path: Path, disc: Path
) -> None:
    """tests.program.run checks every hint so; here are commands that met what others explain."""
    import lzma

    child = tmp_path / "child.avhdx"
    packed = testdata / "disk/discutils-disk-child1.avhdx.xz"
    child.write_bytes(lzma.decompress(packed.read_bytes()))
    job = ("inject", child, "--package", disc, "--output", tmp_path / "new.vhdx", "--host", "lab")
    for arguments in (job, ("lab", "boot", child), ("verify", child)):
        done = run(*arguments)
        assert done.returncode == 3
        assert "its parent" in done.stderr
        assert "only read an image" in done.stderr


def test_a_hint_with_a_strange_option_is_found() -> None:
    from tests.program import check_hints

    with pytest.raises(AssertionError, match="--parents"):
        check_hints(("inject", "t.vhdx"), "imagetool: x\nhint: Name it with --parents.")
    check_hints(("verify", "t.vhdx"), "hint: Name it with --parents, or `imagetool x --other`.")
