"""VHD disks against qemu-img, foreign disks with known hashes, and damage."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetool.disk import FileSource, MemorySource, open_disk
from imagetool.errors import CannotOpen, Corrupt, ImagetoolError

Unpack = Callable[[str], Path]
MIB = 1 << 20
IMAGE = "c6db12a7db548e193c29420c1b4533e4708b20c5033db5cc29ef075d48316d25"


def digest(path: Path) -> str:
    with FileSource(path) as source:
        disk = open_disk(source)
        total = hashlib.sha256()
        for offset in range(0, disk.size, MIB + 512):
            total.update(disk.read_at(offset, MIB + 512))
        disk.close()
        return total.hexdigest()


def test_a_foreign_dynamic_disk(unpack: Unpack) -> None:
    expected = "870be7ae16c1fa8faab05c6eb9205dc9a7ae35c5f552c5cf8a267c0bc6a5cb99"
    assert digest(unpack("disk/dfvfs-ext2.vhd.xz")) == expected


def test_a_wrong_footer_checksum_is_a_warning(unpack: Unpack) -> None:
    path = unpack("disk/dfvfs-image.vhd.xz")
    assert digest(path) == IMAGE
    with FileSource(path) as source:
        assert "checksum is wrong" in open_disk(source).warnings[0]


def test_a_differencing_disk_beside_its_parent(unpack: Unpack, tmp_path: Path) -> None:
    shutil.copyfile(unpack("disk/dfvfs-image.vhd.xz"), tmp_path / "image.vhd")
    child = tmp_path / "child.vhd"
    shutil.copyfile(unpack("disk/dfvfs-image-differential.vhd.xz"), child)
    assert digest(child) == IMAGE
    with FileSource(child) as source:
        disk = open_disk(source)
        assert (disk.kind, disk.chain) == ("differencing", (str(tmp_path / "image.vhd"),))
        disk.close()


def test_a_missing_parent_is_named_with_where_it_was_looked_for(unpack: Unpack) -> None:
    path = unpack("disk/dfvfs-fat-differential.vhd.xz")
    with FileSource(path) as source, pytest.raises(CannotOpen, match=r"fat-parent\.vhd") as caught:
        open_disk(source)
    assert str(path.parent) in str(caught.value)


def test_another_parent_of_the_same_name_is_refused(unpack: Unpack, tmp_path: Path) -> None:
    shutil.copyfile(unpack("disk/dfvfs-ext2.vhd.xz"), tmp_path / "image.vhd")
    child = tmp_path / "child.vhd"
    shutil.copyfile(unpack("disk/dfvfs-image-differential.vhd.xz"), child)
    with FileSource(child) as source, pytest.raises(Corrupt, match="is not its parent"):
        open_disk(source)


@pytest.mark.parametrize(
    ("name", "size"),
    [("hyperv2012r2-dynamic", 136365211648), ("virtualpc-dynamic", 136363130880)],
)
def test_the_size_is_the_one_that_the_creator_counts(unpack: Unpack, name: str, size: int) -> None:
    with FileSource(unpack(f"disk/{name}.vhd.bz2")) as source:
        disk = open_disk(source)
        assert disk.size == size
        assert disk.read_at(size - 4096, 8192) == bytes(4096)
        assert list(disk.allocated_ranges()) == []


@pytest.fixture(scope="module")
def made(
    oracle: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[bytes, bytes]]:
    """Disks of qemu-img, and the raw disks that they were made of."""
    folder = tmp_path_factory.mktemp("vhd")
    noise = random.Random(11)
    raw = folder / "raw"
    with raw.open("wb") as file:
        file.truncate(17 * MIB)
        for place in (0, 5 * MIB - 700, 9 * MIB, 17 * MIB - 512):
            file.seek(place)
            file.write(noise.randbytes(512 if place > 16 * MIB else 90_000))
    found = {}
    for kind in ("dynamic", "fixed"):
        path = folder / f"{kind}.vhd"
        options = f"subformat={kind},force_size=on"
        subprocess.run(
            [oracle("qemu-img"), "convert", "-O", "vpc", "-o", options, raw, path],
            check=True,
            capture_output=True,
        )
        found[kind] = (path.read_bytes(), raw.read_bytes())
    return found


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    st.sampled_from(["dynamic", "fixed"]),
    st.lists(
        st.tuples(st.integers(0, 17 * MIB + 900), st.integers(0, 5 * MIB)), min_size=1, max_size=4
    ),
)
def test_any_reads_equal_those_of_the_raw_disk(
    made: dict[str, tuple[bytes, bytes]], kind: str, ranges: list[tuple[int, int]]
) -> None:
    image, raw = made[kind]
    disk = open_disk(MemorySource(image, f"{kind}.vhd"))
    assert (disk.format, disk.kind, disk.size) == ("VHD", kind, len(raw))
    expected = [raw[offset : offset + length] for offset, length in ranges]
    assert disk.read_many(ranges) == expected
    assert [disk.read_at(*item) for item in ranges] == expected


def test_a_damaged_footer_at_the_end_is_no_loss_and_is_said(
    made: dict[str, tuple[bytes, bytes]],
) -> None:
    image, raw = made["dynamic"]
    damaged = image[:-480] + b"\xff" + image[-479:]
    disk = open_disk(MemorySource(damaged, "damaged.vhd"))
    assert disk.read_at(0, len(raw)) == raw
    assert "the footer at the end is damaged" in disk.warnings[0]


@pytest.mark.parametrize("cut", [512, 513, MIB, 4 * MIB])
def test_a_file_without_its_footer_was_cut_off(
    made: dict[str, tuple[bytes, bytes]], cut: int
) -> None:
    image = made["dynamic"][0][:-cut]
    with pytest.raises(Corrupt, match="the VHD footer at the end of the file is missing"):
        open_disk(MemorySource(image, "cut.vhd"))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.data())
def test_damage_ends_in_our_errors_only(
    made: dict[str, tuple[bytes, bytes]], data: st.DataObject
) -> None:
    image = bytearray(made["dynamic"][0])
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.sampled_from([0, 512, 1536, len(image) - 512]))
        place += data.draw(st.integers(0, 120))
        image[min(place, len(image) - 1)] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([len(image), len(image) // 2, 2000]))
    try:
        disk = open_disk(MemorySource(bytes(image[:cut]), "damaged.vhd"))
        disk.read_many([(0, 5000), (disk.size // 2, 70_000)])
    except ImagetoolError as error:
        assert error.exit_code == 3
