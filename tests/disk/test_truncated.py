"""Copies that broke off: what is cut from a disk's file is said, or was outside all that it holds.

The disks are qemu-img's, Hyper-V's and those of other programs; whole, none is warned of.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetool.disk import open_disk
from imagetool.disk.source import MemorySource
from imagetool.errors import Unreadable
from imagetool.guest.disk_map import map_disk
from imagetool.guest.image import open_image

MIB = 1 << 20
SIZE = 20 * MIB - 512 * 6
QEMU_DISKS = {
    "dynamic.vhdx": ("vhdx", "block_size=1M"),
    "large-blocks.vhdx": ("vhdx", "block_size=8M"),
    "dynamic.vhd": ("vpc", "subformat=dynamic,force_size=on"),
    "fixed.vhd": ("vpc", "subformat=fixed,force_size=on"),
}
WHOLE = (
    "disk/discutils-disk.vhdx.xz",
    "disk/server2022-dynamic-ntfs.vhdx.zip",
    "disk/iotest-dynamic-1G.vhdx.bz2",
    "disk/dfvfs-ext2.vhd.xz",
    "disk/virtualpc-dynamic.vhd.bz2",
    "disk/gpt-no-backup.raw.xz",
    "fs/ntfs-512-clusters.raw.xz",
    "found/ext4-backslash-name.raw.xz",
)


@pytest.fixture(scope="module")
def raw() -> bytes:
    """Noise at the start, in the middle, and at the very end."""
    noise = random.Random(5)
    data = bytearray(SIZE)
    for offset in (0, 5 * MIB - 700, 13 * MIB, SIZE - 4096):
        data[offset : offset + 4096] = noise.randbytes(4096)
    return bytes(data)


@pytest.fixture(scope="module")
def disks(
    oracle: Callable[[str], str], raw: bytes, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("truncated")
    (folder / "raw").write_bytes(raw)
    found = {}
    for name, (kind, options) in QEMU_DISKS.items():
        command = [oracle("qemu-img"), "convert", "-f", "raw", "-O", kind, "-o", options]
        subprocess.run([*command, folder / "raw", folder / name], check=True)
        found[name] = (folder / name).read_bytes()
    return found


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    st.sampled_from(sorted(QEMU_DISKS)),
    st.one_of(st.integers(1, 1100), st.integers(1, 25).map(MIB.__mul__), st.integers(1, 30 * MIB)),
    st.integers(0, 2),
)
def test_what_is_cut_off_is_said_wherever_one_reads(
    disks: dict[str, bytes], raw: bytes, name: str, lost: int, first_read: int
) -> None:
    image = disks[name]
    rest = MemorySource(image[: max(0, len(image) - lost)], name)
    try:
        disk = open_disk(rest)
        disk.read_at(first_read * 5 * MIB, 512)
        if disk.warnings:
            return
    except Unreadable:
        return
    assert disk.read_at(0, len(raw)) == raw


@pytest.mark.parametrize("name", sorted(QEMU_DISKS))
def test_a_whole_disk_is_not_warned_of(disks: dict[str, bytes], raw: bytes, name: str) -> None:
    disk = open_disk(MemorySource(disks[name], name))
    assert disk.read_at(0, len(raw)) == raw
    assert disk.warnings == ()


@pytest.mark.parametrize("name", WHOLE)
def test_foreign_disks(unpack: Callable[[str], Path], name: str, tmp_path: Path) -> None:
    whole = unpack(name)
    with open_image(whole) as image:
        assert map_disk(image).warnings == ()
    data = whole.read_bytes()
    cut = tmp_path / whole.name
    for lost in (1, MIB, len(data) // 2):
        if lost >= len(data):
            continue
        cut.write_bytes(data[:-lost])
        try:
            with open_image(cut) as image:
                warnings = map_disk(image).warnings
        except Unreadable as error:
            assert error.exit_code == 3
        else:
            assert any("truncated" in text or "beyond" in text for text in warnings), lost


def test_a_partition_beyond_the_end_is_said(oracle: Callable[[str], str], tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    for label, table in (("dos", "2048,2048\n4096,8192,5\n"), ("gpt", "2048,8192\n")):
        path.unlink(missing_ok=True)
        with path.open("wb") as file:
            file.truncate(16384 * 512)
        command = [oracle("sfdisk"), "-q", "-X", label, path]
        subprocess.run(command, check=True, input=table.encode(), capture_output=True)
        if label == "dos":  # an extended partition, and the empty record that it begins with
            with path.open("r+b") as file:
                file.seek(4096 * 512 + 510)
                file.write(b"\x55\xaa")
        with open_image(path) as image:
            assert image.partition_table.warnings == ()
        with path.open("r+b") as file:
            file.truncate(11000 * 512)
        with open_image(path) as image:
            assert "is truncated" in image.partition_table.warnings[0]
