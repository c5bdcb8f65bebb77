"""Names and docstrings as docs/architecture.md asks for them, counted in the code itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "imagetool"

RIDDLE = re.compile(r"(What|Who|Whose|Whether|Where|How|Which|Why|When)\b")
MAX_RIDDLES = 0.02
"""The share of docstrings that may open with a question word."""


def trees() -> Iterator[tuple[Path, ast.Module]]:
    """Every module of the package, parsed."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of the docstrings of modules, classes, functions, and of attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text
        if isinstance(node, ast.Module | ast.ClassDef):
            for before, after in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(before, ast.Assign | ast.AnnAssign)
                    and isinstance(after, ast.Expr)
                    and isinstance(after.value, ast.Constant)
                    and isinstance(after.value.value, str)
                ):
                    yield after.lineno, after.value.value


def test_a_docstring_says_what_a_thing_is_or_does() -> None:
    found = [(path, line, text) for path, tree in trees() for line, text in docstrings(tree)]
    riddles = [
        f"{path.relative_to(PACKAGE)}:{line}: {text.splitlines()[0]}"
        for path, line, text in found
        if RIDDLE.match(text)
    ]
    assert len(found) > 1000
    assert len(riddles) <= MAX_RIDDLES * len(found), "\n".join(riddles)


def test_no_two_classes_have_one_name() -> None:
    seen: dict[str, str] = {}
    twice = []
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                where = f"{path.relative_to(PACKAGE)}:{node.lineno}"
                if node.name in seen:
                    twice.append(f"{node.name}: {seen[node.name]} and {where}")
                seen[node.name] = where
    assert not twice, "\n".join(twice)


def test_no_name_speaks_of_a_place() -> None:
    """It stood for offset, partition, path, index and location: each has its own word."""
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {name}"
        for path, tree in trees()
        for node in ast.walk(tree)
        for name in [
            getattr(node, "id", None) or getattr(node, "arg", None) or getattr(node, "name", None)
        ]
        if isinstance(name, str) and re.search(r"(^|_)places?(_|$)", name.lower())
    ]
    assert not found, "\n".join(found)
