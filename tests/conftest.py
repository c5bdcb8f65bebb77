"""What every test may ask for: the foreign test data, independent tools, real packages.

Where one of these is missing a test skips and says which; where CI is set, nothing may be missing
but what MAY_SKIP names.
"""

from __future__ import annotations

import bz2
import importlib
import lzma
import os
import secrets
import shutil
import zipfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest

from fixtures.cache import build_once
from fixtures.unpack import unpack as unpack_demo
from imagetool.report import json as json_format
from imagetool.report.data import Document
from tests.schema_check import check_document

ROOT = Path(__file__).resolve().parent.parent
TESTDATA = Path(os.environ.get("IMAGETOOL_TESTDATA", ROOT.parent / "shared" / "testdata"))


def pytest_xdist_auto_num_workers() -> int:
    """Two for each processor: half of the time is spent on waiting for other processes."""
    return 2 * (os.cpu_count() or 1)


MAY_SKIP = ("IMAGETOOL_REAL_PACKAGES names no folder", "root may read everything",
            "only root may mount", "IMAGETOOL_WINDOWS_ENGINE names no PowerShell")  # fmt: skip
"""How the reasons begin for which a test may skip even where CI is set."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that skips where nothing may be missing has failed."""
    report = yield
    if report.skipped and os.environ.get("CI") and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith(MAY_SKIP):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} skipped, and CI is set: {reason}"
    return report


def missing(what: str) -> NoReturn:
    """Skip for want of something."""
    pytest.skip(f"missing: {what}")


def tool(name: str) -> str:
    """The path of an independent program."""
    path = shutil.which(name)
    if path is None:
        missing(f"the program {name} (make test installs it)")
    return path


@pytest.fixture(scope="session", autouse=True)
def _every_document_keeps_to_its_schema() -> Generator[None]:
    """Check every JSON document that a test makes in this process, with all objects closed."""
    write = json_format.render

    def checked(document: Document) -> str:
        text = write(document)
        check_document(text)
        return text

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_format, "render", checked)
        yield


@pytest.fixture(scope="session")
def testdata() -> Path:
    """The folder of foreign files with known answers."""
    if not TESTDATA.is_dir():
        missing(f"the test data in {TESTDATA}")
    return TESTDATA


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this run have in common; see fixtures.cache.build_once."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def unpack(testdata: Path, shared_folder: Path) -> Callable[[str], Path]:
    """A foreign file by its packed name below the test data; where the unpacked one lies."""

    def write(name: str) -> Path:
        packed = testdata / name

        def unpack_it(target: Path) -> None:
            if packed.suffix == ".zip":
                with zipfile.ZipFile(packed) as archive:
                    target.write_bytes(archive.read(archive.namelist()[0]))
            else:
                pack = bz2 if packed.suffix == ".bz2" else lzma
                target.write_bytes(pack.decompress(packed.read_bytes()))

        return build_once(shared_folder / packed.stem, unpack_it)

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
def demo_files(shared_folder: Path) -> Path:
    """A folder with the demo's template.vhdx and vmguest.iso, which no test may change."""

    def unpack_both(folder: Path) -> None:
        folder.mkdir()
        unpack_demo(folder)

    return build_once(shared_folder / "demo-files", unpack_both)


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
        missing("PowerShell; get pwsh from https://aka.ms/powershell and put it into PATH")
    return found or str(beside)


@pytest.fixture(params=["powershell", "python"])
def lab_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two ways in which the emulated host is asked."""
    if request.param == "powershell":
        path = request.getfixturevalue("engine")
        monkeypatch.setenv("PATH", f"{Path(path).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", request.param)
    return str(request.param)


@pytest.fixture(autouse=True)
def lab_directory(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A state directory for the emulated host of each test, made where one is started."""
    directory = tmp_path_factory.getbasetemp() / f"lab-{secrets.token_hex(4)}"
    monkeypatch.setenv("IMAGETOOL_LAB", str(directory))
    yield directory
    if directory.exists():
        from imagetool.lab.lasting_host import reset_host

        reset_host(directory)


@pytest.fixture
def writers() -> None:
    """The libraries with which the emulated host writes images."""
    import ctypes.util

    for name in ("ntfs-3g", "hivex"):
        if ctypes.util.find_library(name) is None:
            missing(f"the library lib{name} (make demo installs it)")
