"""The table of who may know whom (docs/architecture.md), read from the code itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "imagetool"

GROUND = {"budget", "contracts", "errors", "version"}
BYTES = GROUND | {"compression", "disk", "filesystem", "registry"}
FACTS = {"package", "guest"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "version": set(),
    "budget": {"errors"},
    "contracts": {"budget", "errors"},
    "compression": GROUND,
    "disk": GROUND | {"compression"},
    "filesystem": GROUND | {"disk", "compression"},
    "registry": GROUND | {"filesystem", "disk", "compression"},
    "package": BYTES,
    "guest": BYTES | {"package"},
    "host": GROUND,
    "lab": BYTES | FACTS | {"host"},
    "verdict": BYTES | FACTS,
    "advice": BYTES | FACTS | {"verdict"},
    "location": BYTES | FACTS | {"host"},
    "servicing": BYTES | FACTS | {"host", "location", "verdict"},
    "report": BYTES | FACTS | {"host", "verdict", "advice", "servicing"},
    "arguments": GROUND | FACTS | {"location"},
    "connection": GROUND | {"arguments", "host", "lab", "location"},
    "__init__": BYTES
    | FACTS
    | {"arguments", "connection", "host", "location", "verdict", "advice", "servicing", "report"},
    "cli": BYTES
    | FACTS
    | {"connection", "host", "location", "verdict", "advice", "servicing", "report", "lab"},
    "__main__": {"cli"},
}
"""What each folder, and each module of the top level, may import; `__init__` is the public API."""


def imported(path: Path) -> set[str]:
    """The rooms that a module imports from, anywhere in its text."""
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
            package, _, rest = name.partition(".")
            if package == "imagetool":
                room = rest.partition(".")[0]
                found.add(room if room in ROOMS else "__init__")
    return found


def modules(room: str) -> list[Path]:
    """The modules of a room: those of a folder, or the one module of the top level."""
    folder = PACKAGE / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


ROOMS = sorted(
    path.stem
    for path in PACKAGE.iterdir()
    if path.suffix == ".py" or (path / "__init__.py").is_file()
)


def test_the_table_names_every_folder_and_top_level_module() -> None:
    assert set(ROOMS) <= set(ALLOWED)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_below(room: str) -> None:
    for path in modules(room):
        strange = imported(path) - ALLOWED[room] - {room}
        assert not strange, f"{path.relative_to(PACKAGE)} imports {sorted(strange)}"


def test_an_import_of_the_top_level_is_seen(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "import imagetool\nfrom imagetool import verify\n"
        "def later():\n    from imagetool.lab.session import LabSession\n"
        "    import imagetool.errors\n    from imagetool.contracts import Source\n",
        encoding="utf-8",
    )
    assert imported(module) == {"__init__", "lab", "errors", "contracts"}


def test_only_the_processes_of_the_lab_load_foreign_libraries() -> None:
    for path in PACKAGE.rglob("*.py"):
        if "ctypes" in path.read_text(encoding="utf-8"):
            assert path.parent.name == "lab", path


def test_one_module_imports_construct() -> None:
    """It keeps construct from asking Windows for its name (test_platform.py)."""
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        if name.partition(".")[0] == "construct"
    }
    assert found == {"disk/declarations.py"}
