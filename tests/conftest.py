"""What every test may ask for: the foreign test data, independent tools, real packages.

Where one of these is missing a test skips and says which; where CI is set, a missing one fails.
"""

from __future__ import annotations

import bz2
import importlib
import lzma
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
TESTDATA = Path(os.environ.get("IMAGETOOL_TESTDATA", ROOT.parent / "shared" / "testdata"))


def missing(what: str) -> NoReturn:
    """Skip, or fail where nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(f"missing: {what}")
    pytest.skip(f"missing: {what}")


def tool(name: str) -> str:
    """The path of an independent program."""
    path = shutil.which(name)
    if path is None:
        missing(f"the program {name} (make test installs it)")
    return path


@pytest.fixture(scope="session")
def testdata() -> Path:
    """The folder of foreign files with known answers."""
    if not TESTDATA.is_dir():
        missing(f"the test data in {TESTDATA}")
    return TESTDATA


@pytest.fixture(scope="session")
def unpack(testdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A foreign file by its packed name below the test data; where the unpacked one lies."""
    folder = tmp_path_factory.mktemp("foreign")

    def write(name: str) -> Path:
        packed = testdata / name
        target = folder / packed.stem
        if not target.exists():
            data = packed.read_bytes()
            if packed.suffix == ".zip":
                with zipfile.ZipFile(packed) as archive:
                    data = archive.read(archive.namelist()[0])
            else:
                data = (bz2 if packed.suffix == ".bz2" else lzma).decompress(data)
            target.write_bytes(data)
        return target

    return write


@pytest.fixture(scope="session")
def real_packages() -> Path:
    """The folder of Microsoft's own packages, which may not be passed on: skips everywhere else."""
    folder = Path(os.environ.get("IMAGETOOL_REAL_PACKAGES", ""))
    if not os.environ.get("IMAGETOOL_REAL_PACKAGES") or not folder.is_dir():
        pytest.skip("IMAGETOOL_REAL_PACKAGES names no folder of real packages")
    return folder


@pytest.fixture(scope="session")
def oracle() -> Callable[[str], str]:
    """A function that gives the path of an independent program."""
    return tool


@pytest.fixture(scope="session")
def library() -> Callable[[str], ModuleType]:
    """A function that gives an independent library of Python's."""

    def load(name: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except ImportError:
            missing(f"the library {name} (make test installs it)")

    return load


@pytest.fixture(scope="session")
def demo_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo's template.vhdx and vmguest.iso, which no test may change."""
    from fixtures.unpack import unpack

    folder = tmp_path_factory.mktemp("demo-files")
    unpack(folder)
    return folder


@pytest.fixture(scope="session")
def template(demo_files: Path) -> Path:
    """The phony guest: Windows Server 2012 R2, booted once on Hyper-V, not generalised."""
    return demo_files / "template.vhdx"


@pytest.fixture(scope="session")
def disc(demo_files: Path) -> Path:
    """The look-alike of vmguest.iso with the four packages."""
    return demo_files / "vmguest.iso"


@pytest.fixture(scope="session")
def engine() -> str:
    """The real PowerShell engine: in PATH, or beside the project."""
    beside = ROOT.parent / "shared" / "pwsh" / "pwsh"
    found = shutil.which("powershell.exe") or shutil.which("pwsh")
    if found is None and not beside.is_file():
        missing("a PowerShell engine (pwsh)")
    return found or str(beside)


@pytest.fixture(params=["powershell", "python"])
def lab_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two ways in which the emulated host is asked."""
    if request.param == "powershell":
        path = request.getfixturevalue("engine")
        monkeypatch.setenv("PATH", f"{Path(path).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", request.param)
    return str(request.param)


@pytest.fixture
def writers() -> None:
    """The libraries with which the emulated host writes images."""
    import ctypes.util

    for name in ("ntfs-3g", "hivex"):
        if ctypes.util.find_library(name) is None:
            missing(f"the library lib{name} (make demo installs it)")
