"""Small inputs that describe far too much: an answer or one sentence, in little memory."""

from __future__ import annotations

import random
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.bombs import discs, disks, packages, volumes
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

PACKAGES = {
    "members": packages.members,
    "folder": packages.folder,
    "manifest": packages.manifest,
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
    assert (done.returncode == 3) <= len(complaints) <= (done.returncode > 0), done.stderr
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


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("make", "name"), [(volumes.ext_directory, "none"), (volumes.fat_chain, "CHAIN")]
)
def test_a_volume_costs_little_whatever_it_describes(
    tmp_path: Path, make: Callable[[random.Random], bytes], name: str, seed: int
) -> None:
    path = tmp_path / "volume.raw"
    path.write_bytes(make(random.Random(seed)))
    assert path.stat().st_size <= 64 << 20
    answer("inspect", path)
    answer("file", "list", path)
    answer("file", "list", path, name)
    answer("file", "extract", path, name, tmp_path / "out")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("make", [discs.directories, discs.packages, discs.continuations])
def test_a_disc_costs_little_whatever_it_describes(
    tmp_path: Path, make: Callable[[random.Random], bytes], seed: int
) -> None:
    path = tmp_path / "disc.iso"
    path.write_bytes(make(random.Random(seed)))
    assert path.stat().st_size <= 64 << 20
    for command in ("show", "list", "check"):
        answer("package", command, path)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_costs_little_whatever_it_describes(tmp_path: Path, name: str, seed: int) -> None:
    path = tmp_path / f"{name}.cab"
    path.write_bytes(PACKAGES[name](random.Random(seed)))
    assert path.stat().st_size <= 64 << 20
    for command in ("show", "list", "check"):
        answer("package", command, path)


@pytest.mark.parametrize("name", ["cat-1M-subjects", "quadratic", "x_nested"])
def test_packages_that_others_made_cost_little(unpack: Callable[[str], Path], name: str) -> None:
    path = unpack(f"found/bombs/{name}.cab.xz")
    for command in ("show", "list", "check"):
        answer("package", command, path)


def test_members_of_many_gigabytes_are_written_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.cab"
    blocks = packages.zeros(4000)
    size = 4000 * 32768
    path.write_bytes(packages.cabinet([("large", size, 0, 0)], [(packages.MSZIP, blocks)]))
    assert answer("package", "extract", path, tmp_path / "out").returncode == 0
    written = tmp_path / "out" / "large"
    assert written.stat().st_size == size
    assert not written.read_bytes().strip(b"\0")


def test_members_in_another_order_than_their_bytes_cost_one_pass(tmp_path: Path) -> None:
    noise = random.Random(1)
    content = noise.randbytes(100 * 32768)
    blocks = [content[start : start + 32768] for start in range(0, len(content), 32768)]
    order = list(range(0, len(content), 1000))
    noise.shuffle(order)
    members = [(f"{offset}", min(1000, len(content) - offset), offset, 0) for offset in order]
    path = tmp_path / "order.cab"
    path.write_bytes(packages.cabinet(members, [(0, blocks)]))
    assert answer("package", "extract", path, tmp_path / "out").returncode == 0
    for offset in order:
        written = (tmp_path / "out" / f"{offset}").read_bytes()
        assert written == content[offset : offset + 1000]
