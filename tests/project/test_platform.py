"""No import asks Windows for its name: there `platform.uname` asks WMI, which may take for ever."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "imagetool"

ASKS_ITSELF = {"keyring"}
"""Libraries that ask when they are imported; imagetool imports them to look for a password only."""

IMPORT_WITHOUT_UNAME = """
import importlib, platform, sys, traceback
import uuid  # asks at its import, but on Windows and macOS

asked = []

def refuse(*args, **kwargs):
    asked.append("".join(traceback.format_stack(limit=12)))
    raise RuntimeError("the system was asked for its name")

system = platform.system
platform.uname = platform.win32_ver = refuse
for name in sys.argv[1:]:
    importlib.import_module(name)
assert platform.system is system
assert not asked, asked[0]
"""

FAILED_IMPORT = """
import platform, sys

system = platform.system
sys.modules["construct"] = None
try:
    import imagetool.disk.declarations
except ImportError:
    assert platform.system is system
else:
    raise AssertionError("construct was imported")
"""


def modules() -> list[str]:
    """Every module of imagetool but the one that runs the command line."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return [name for name in found if not name.endswith("__main__")]


def libraries() -> list[str]:
    """Every module of a library that imagetool imports, when it is imported or later."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
    ours = sys.stdlib_module_names | {"imagetool", "_typeshed"} | ASKS_ITSELF
    return sorted(name for name in found if name.partition(".")[0] not in ours)


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def import_without_uname(*names: str) -> subprocess.CompletedProcess[str]:
    return run(IMPORT_WITHOUT_UNAME, *names)


def test_no_module_asks_for_the_name_of_the_system_when_it_is_imported() -> None:
    done = import_without_uname(*modules())
    assert done.returncode == 0, done.stderr[-3000:]


def test_no_library_asks_for_the_name_of_the_system_when_a_question_imports_it() -> None:
    names = libraries()
    assert {"construct", "requests", "winrm", "typer"} <= set(names)
    done = import_without_uname("imagetool.disk.declarations", *names, "typer.rich_utils")
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_library_that_asks_is_seen() -> None:
    done = import_without_uname("construct")
    assert "the system was asked for its name" in done.stderr


def test_the_name_of_the_system_is_asked_as_ever_after_a_failed_import() -> None:
    done = run(FAILED_IMPORT)
    assert done.returncode == 0, done.stderr
