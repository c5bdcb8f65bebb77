"""The phony guests that these tests build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.guests import GuestSpec, cached_guest


@pytest.fixture(scope="session")
def build(oracle: Callable[[str], str]) -> Callable[[GuestSpec], Path]:
    for name in ("mkntfs", "wimlib-imagex", "hivexregedit", "sfdisk", "qemu-img", "mkfs.fat"):
        oracle(name)
    oracle("llvm-rc")
    oracle("lld-link")
    return cached_guest
