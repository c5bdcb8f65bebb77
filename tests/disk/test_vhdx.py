"""VHDX disks against the answers of other readers, and against damage."""

from __future__ import annotations

import hashlib
import io
import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetool.disk import FileSource, MemorySource, open_disk
from imagetool.disk.export import export
from imagetool.errors import CannotWrite, Corrupt, ImagetoolError, Unsupported

Unpack = Callable[[str], Path]
Oracle = Callable[[str], str]

MIB = 1 << 20


def digest(path: Path) -> str:
    """The SHA-256 of the whole virtual disk."""
    total = hashlib.sha256()
    with FileSource(path) as source:
        disk = open_disk(source)
        for offset in range(0, disk.size, 3 * MIB + 512):
            total.update(disk.read_at(offset, 3 * MIB + 512))
    return total.hexdigest()


@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        (
            "disk/server2022-dynamic-ntfs.vhdx.zip",
            "762ca4030df6cf834f5121ed2ecf52fe6cfd3294673406867ef94b9e0990143e",
        ),
        (
            "disk/iotest-dynamic-1G.vhdx.bz2",
            "d3d112d8dab7fd360609f7d5a7b769904b7a2a7d7b6b8c535f65a23293c05478",
        ),
        (
            "disk/test-disk2vhd.vhdx.bz2",
            "96d964042be9b58dda1725567abfb0cf9fd8380e2118754afa979c2ad445938a",
        ),
        (
            "disk/discutils-disk.vhdx.xz",
            "5d03c6887cfe9f77f6a215b4e2be8994bd4e7f8529d38b1688abd4e898f9fc82",
        ),
    ],
)
def test_a_foreign_disk_reads_as_others_read_it(unpack: Unpack, name: str, sha256: str) -> None:
    assert digest(unpack(name)) == sha256


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw disk with data, zeros and holes, of a size that ends inside a block."""
    path = tmp_path_factory.mktemp("raw") / "pattern.raw"
    noise = random.Random(6)
    with path.open("wb") as file:
        file.truncate(21 * MIB + 512)
        for place in (0, 3 * MIB - 700, 9 * MIB, 15 * MIB + 12345, 21 * MIB):
            file.seek(place)
            file.write(noise.randbytes(512 if place == 21 * MIB else 150_000))
    return path


def convert(oracle: Oracle, raw: Path, target: Path, options: str) -> Path:
    program = oracle("qemu-img")
    subprocess.run(
        [program, "convert", "-O", "vhdx", "-o", options, raw, target],
        check=True,
        capture_output=True,
    )
    return target


@pytest.mark.parametrize(
    "options",
    ["subformat=dynamic,block_size=1M", "subformat=dynamic,block_size=8M", "subformat=fixed"],
)
def test_a_disk_of_qemu_reads_as_the_raw_one(
    oracle: Oracle, pattern: Path, tmp_path: Path, options: str
) -> None:
    path = convert(oracle, pattern, tmp_path / "disk.vhdx", options)
    raw = pattern.read_bytes()
    with FileSource(path) as source:
        disk = open_disk(source)
        assert disk.kind == options.split(",")[0].removeprefix("subformat=")
        assert disk.size == len(raw)
        assert disk.read_at(0, disk.size + 5) == raw
        whole = bytearray(len(raw))
        for start, length in disk.allocated_ranges():
            whole[start : start + length] = raw[start : start + length]
        assert bytes(whole) == raw


def test_the_exported_disk_is_the_virtual_disk(
    oracle: Oracle, pattern: Path, tmp_path: Path
) -> None:
    path = convert(oracle, pattern, tmp_path / "disk.vhdx", "subformat=dynamic,block_size=1M")
    target = tmp_path / "disk.raw"
    with FileSource(path) as source:
        disk = open_disk(source)
        export(disk, target)
        assert target.read_bytes() == pattern.read_bytes()
        assert target.stat().st_blocks * 512 < disk.size // 2
        with pytest.raises(CannotWrite, match="already"):
            export(disk, target)


def shuffle(path: Path) -> bytes:
    """The same disk with its blocks in the reverse order in the file."""
    import pyvhdi

    data = bytearray(path.read_bytes())
    with FileSource(path) as source:
        disk = open_disk(source)
        layout, table = disk.metadata, disk.bat  # type: ignore[attr-defined]
        ratio, size = table.chunk_ratio, layout.block_size
        blocks = [block for run in table.present_blocks() for block in range(*run)]
        places = [table.offset_of(block) for block in blocks]
    new = bytearray(data)
    for block, source_place, target in zip(blocks, places, reversed(places), strict=True):
        new[target : target + size] = data[source_place : source_place + size]
        entry = layout.bat_offset + 8 * (block + block // ratio)
        struct.pack_into("<Q", new, entry, target | 6)
    foreign = pyvhdi.file()
    foreign.open_file_object(io.BytesIO(bytes(new)))
    return bytes(new)


@pytest.fixture(scope="module")
def shuffled(
    oracle: Oracle, pattern: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[bytes, bytes]:
    path = tmp_path_factory.mktemp("shuffled") / "disk.vhdx"
    convert(oracle, pattern, path, "subformat=dynamic,block_size=1M")
    return shuffle(path), pattern.read_bytes()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, 21 * MIB + 2000), st.integers(0, 3 * MIB)), min_size=1, max_size=6
    )
)
def test_any_reads_of_shuffled_blocks_equal_those_of_the_raw_disk(
    shuffled: tuple[bytes, bytes], ranges: list[tuple[int, int]]
) -> None:
    disk = open_disk(MemorySource(shuffled[0], "shuffled.vhdx"))
    raw = shuffled[1]
    expected = [raw[offset : offset + length] for offset, length in ranges]
    assert disk.read_many(ranges) == expected
    assert [disk.read_at(*item) for item in ranges] == expected


def test_libvhdi_reads_the_shuffled_disk_as_we_do(shuffled: tuple[bytes, bytes]) -> None:
    import pyvhdi

    foreign = pyvhdi.file()
    foreign.open_file_object(io.BytesIO(shuffled[0]))
    assert foreign.read_buffer_at_offset(len(shuffled[1]), 0) == shuffled[1]


@pytest.fixture(scope="module")
def small(shuffled: tuple[bytes, bytes]) -> bytes:
    return shuffled[0]


def sealed(data: bytearray, offset: int, length: int) -> bytes:
    """The data with the CRC-32C of a changed structure put right."""
    struct.pack_into("<I", data, offset + 4, 0)
    crc = google_crc32c.value(bytes(data[offset : offset + length]))
    struct.pack_into("<I", data, offset + 4, crc)
    return bytes(data)


def test_one_damaged_header_is_no_loss_and_two_are(small: bytes) -> None:
    data = bytearray(small)
    data[65536 + 20] ^= 1
    open_disk(MemorySource(bytes(data)))
    data[131072 + 20] ^= 1
    with pytest.raises(Corrupt, match="neither header"):
        open_disk(MemorySource(bytes(data), "two.vhdx"))


def test_one_damaged_region_table_is_no_loss_and_two_are(small: bytes) -> None:
    data = bytearray(small)
    data[196608 + 9] ^= 1
    open_disk(MemorySource(bytes(data)))
    data[262144 + 9] ^= 1
    with pytest.raises(Corrupt, match="neither region table"):
        open_disk(MemorySource(bytes(data)))


def test_an_unknown_region_is_refused_only_where_it_is_required(small: bytes) -> None:
    for required, error in ((0, None), (1, Unsupported)):
        data = bytearray(small)
        struct.pack_into("<I", data, 196608 + 8, 3)
        struct.pack_into("<16sQII", data, 196608 + 16 + 64, b"x" * 16, 9 << 20, 1 << 20, required)
        disk = MemorySource(sealed(data, 196608, 65536))
        if error is None:
            open_disk(disk)
        else:
            with pytest.raises(error, match="is required and unknown"):
                open_disk(disk)


def test_a_block_beyond_the_end_of_the_file_is_named(small: bytes) -> None:
    disk = open_disk(MemorySource(small))
    entry = disk.metadata.bat_offset  # type: ignore[attr-defined]
    data = bytearray(small)
    struct.pack_into("<Q", data, entry, 1 << 40 | 6)
    with pytest.raises(Corrupt, match="block 0 lies beyond the end of the file"):
        open_disk(MemorySource(bytes(data), "far.vhdx")).read_at(0, 512)
    cut = open_disk(MemorySource(small[: len(small) - MIB], "cut.vhdx"))
    with pytest.raises(Corrupt, match="beyond the end"):
        cut.read_at(0, cut.size)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_damage_ends_in_our_errors_only(small: bytes, data: st.DataObject) -> None:
    image = bytearray(small)
    tables = [65536, 131072, 196608, 262144, 1 << 20, 2 << 20, 3 << 20]
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.sampled_from(tables)) + data.draw(st.integers(0, 300))
        image[place : place + 4] = data.draw(st.binary(min_size=4, max_size=4))
    seal = data.draw(st.booleans())
    if seal:
        for place, length in ((65536, 4096), (131072, 4096), (196608, 65536), (262144, 65536)):
            sealed(image, place, length)
    cut = data.draw(st.sampled_from([len(image), len(image) // 2, 1 << 20, 70_000]))
    try:
        disk = open_disk(MemorySource(bytes(image[:cut]), "damaged.vhdx"))
        disk.read_many([(0, 4096), (disk.size // 2, 70_000)])
    except ImagetoolError as error:
        assert error.exit_code == 3
        assert "damaged.vhdx" in str(error)
