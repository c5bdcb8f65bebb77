"""The table of who may know whom (docs/architecture.md), read from the code itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "imagetool"

BYTES = {"compression", "disk", "filesystem", "registry"}
FACTS = {"package", "guest"}
ALLOWED: dict[str, set[str]] = {
    "compression": set(),
    "disk": {"compression"},
    "filesystem": {"disk", "compression"},
    "registry": {"filesystem", "disk", "compression"},
    "package": BYTES,
    "guest": BYTES | {"package"},
    "host": set(),
    "lab": BYTES | FACTS | {"host"},
    "servicing": BYTES | FACTS | {"host"},
    "advice": BYTES | FACTS | {"host", "servicing"},
    "report": BYTES | FACTS | {"host", "servicing", "advice"},
    "cli": BYTES | FACTS | {"host", "servicing", "advice", "report", "lab"},
}


def imported(path: Path) -> set[str]:
    """The folders of the package that a module imports, anywhere in its text."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            base = node.module or ""
            names = [f"{base}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "imagetool" and len(parts) > 1 and (PACKAGE / parts[1]).is_dir():
                found.add(parts[1])
    return found


FOLDERS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file())


def test_the_table_names_every_folder() -> None:
    assert set(FOLDERS) <= set(ALLOWED)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_from_below(folder: str) -> None:
    for path in (PACKAGE / folder).rglob("*.py"):
        strange = imported(path) - ALLOWED[folder] - {folder}
        assert not strange, f"{path.relative_to(PACKAGE)} imports {sorted(strange)}"


def test_only_the_processes_of_the_lab_load_foreign_libraries() -> None:
    for path in PACKAGE.rglob("*.py"):
        if "ctypes" in path.read_text(encoding="utf-8"):
            assert path.parent.name == "lab", path
