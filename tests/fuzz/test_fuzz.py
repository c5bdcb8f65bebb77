"""A short run over every target; `make fuzz` goes on for as long as one likes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.harness import EVERYTHING, TARGETS, Patched, Target

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("mkntfs", "wimlib-imagex", "hivexregedit", "sfdisk", "qemu-img", "mkfs.xfs", "mkfs.ext4")


@pytest.fixture(scope="module", autouse=True)
def _tools(oracle: Callable[[str], str]) -> None:
    for name in TOOLS:
        oracle(name)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_what_is_not_changed_is_read(target: Target) -> None:
    """Otherwise a target would be refused at its door, and nothing behind it tried."""
    target.ask(Patched(target.data, [], len(target.data)))
    assert len(target.places) > 1


def test_a_short_run_finds_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.harness", "--rounds", "3"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1].split()
    assert last == ["inputs", f"{3 * len(EVERYTHING)},", "findings", "0"]
