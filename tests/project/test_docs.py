"""The documentation fits its lines, and names what is there."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "imagetool"
DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]

MAX_COLUMNS = 120
PATH = re.compile(r"(?<![\w./-])(?:\w+/)+\w+\.(?:py|ps1)\b")


def prose(document: Path) -> list[tuple[int, str]]:
    """Number and text of every line outside the blocks of code."""
    lines, code = [], False
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            code = not code
        elif not code:
            lines.append((number, line))
    assert not code, f"{document.name}: a block of code does not end"
    return lines


def folders() -> list[str]:
    """Every folder of the package, as a path in it."""
    return sorted(
        path.parent.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.parent != PACKAGE and path.name == "__init__.py"
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_line_has_at_most_120_columns(document: Path) -> None:
    long = [f"{document.name}:{n}: {len(line)}" for n, line in prose(document)
            if len(line) > MAX_COLUMNS and not line.startswith("|")]  # fmt: skip
    assert not long, "\n".join(long)  # a row of a table cannot be broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_module_that_is_named_is_there(document: Path) -> None:
    named = PATH.findall(document.read_text(encoding="utf-8"))
    missing = {
        path for path in named if not any((base / path).exists() for base in (PACKAGE, ROOT))
    }
    assert not missing


def test_a_path_in_a_sentence_is_seen() -> None:
    text = "as (`guest/windows/prefetch.py`), tests/cli/test_cli.py and ./x/y.py or C:/z.py say"
    assert PATH.findall(text) == ["guest/windows/prefetch.py", "tests/cli/test_cli.py"]


@pytest.mark.parametrize("folder", folders())
def test_a_folder_stands_in_the_architecture(folder: str) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    names = "|".join(re.escape(f"{name}/") for name in {folder, folder.rpartition("/")[2]})
    assert re.search(rf"(?<![\w/])({names})", text)


def test_the_tables_of_the_documents_are_those_of_the_schemas() -> None:
    path = ROOT / "docs" / "json_tables.py"
    names = runpy.run_path(str(path))
    text = names["DOCUMENT"].read_text(encoding="utf-8")
    assert text == names["with_tables"](text), "run `make docs`"
