"""Small inputs that describe far too much: an answer or one sentence, in little memory."""

from __future__ import annotations

import random
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.bombs import disks
from tests.program import command_line

SEEDS = range(4)
MEMORY = 300 << 20
"""Of address space: the program and its libraries take a third of it before they begin."""
SECONDS = 20
"""Ten times what is wanted: machines are shared."""
DISKS = {
    "table.vhdx": disks.vhdx_table,
    "locator.vhdx": disks.vhdx_locator,
    "log.vhdx": disks.vhdx_log,
    "table.vhd": disks.vhd_table,
    "group.raw": disks.volume_group,
    "groups.raw": disks.groups,
}


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


def answer(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What a command answers within the limits: an answer, or a sentence that is no excuse."""
    done = subprocess.run(
        command_line(*arguments), preexec_fn=_limit, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1, 3), (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    assert "more memory than there is" not in done.stderr
    complaints = [line for line in done.stderr.splitlines() if line.startswith("imagetool: ")]
    assert len(complaints) == (done.returncode == 3), done.stderr
    return done


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", DISKS)
def test_a_disk_costs_little_whatever_it_describes(tmp_path: Path, name: str, seed: int) -> None:
    make: Callable[[random.Random], bytes] = DISKS[name]
    path = tmp_path / name
    path.write_bytes(make(random.Random(seed)))
    assert path.stat().st_size <= 64 << 20
    for command in ("disk map", "verify"):
        answer(*command.split(), path)
