"""What every test may ask for: the foreign test data, independent tools, real packages.

Where one of these is missing a test skips and says which; where CI is set, a missing one fails.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
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
