"""Partition tables against sfdisk and mmls, and against damage."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetool.disk import FileSource, MemorySource, PartitionTable, open_disk, read_partitions
from imagetool.errors import CannotOpen, Corrupt, ImagetoolError, NotRecognised, Unsupported

Unpack = Callable[[str], Path]


def table_of(path: Path) -> PartitionTable:
    with FileSource(path) as source:
        return read_partitions(open_disk(source))


def test_a_gpt_without_backup_equals_what_sfdisk_prints(unpack: Unpack, testdata: Path) -> None:
    text = (testdata / "truth/disk/gpt-no-backup.partitions.txt").read_text(encoding="utf-8")
    rows = re.findall(r"start= *(\d+), size= *(\d+), type=(\S+), uuid=(\S+), name=\"(.*)\"", text)
    table = table_of(unpack("disk/gpt-no-backup.raw.xz"))
    assert [
        (str(p.offset // 512), str(p.size // 512), p.type.upper(), p.identifier.upper(), p.label)
        for p in table.partitions
    ] == rows
    assert len(rows) == 5
    assert table.identifier.upper() in text


def test_the_table_of_a_windows_server_disk(unpack: Unpack) -> None:
    table = table_of(unpack("disk/server2022-dynamic-ntfs.vhdx.zip"))
    assert table.identifier == "8bd3467c-b6de-42c5-9e1b-a566643aa910"
    assert [(p.offset, p.size, p.label) for p in table.partitions] == [
        (128 * 512, 6144 * 512, "Basic data partition")
    ]


def test_an_mbr_with_sectors_of_4096_bytes_and_an_extended_chain(unpack: Unpack) -> None:
    table = table_of(unpack("disk/mbr-4096-sector.raw.xz"))
    assert (table.scheme, table.identifier, table.sector_size) == ("mbr", "ce1e0256", 4096)
    assert [(p.offset // 4096, p.size // 4096, p.type) for p in table.partitions] == [
        (3, 2, "8e"),
        (9, 2, "83"),
    ]


def test_the_mbr_of_disk2vhd(unpack: Unpack) -> None:
    table = table_of(unpack("disk/test-disk2vhd.vhdx.bz2"))
    assert (table.identifier, [(p.offset, p.type) for p in table.partitions]) == (
        "192a32ad",
        [(128 * 512, "06")],
    )


@pytest.mark.parametrize("name", ["fs/ntfs-512-clusters.raw.xz", "fs/hierarchy_64.ext4.xz"])
def test_a_bare_volume_has_no_table(unpack: Unpack, name: str) -> None:
    assert table_of(unpack(name)).scheme == "none"


@pytest.fixture(scope="module")
def gpt(oracle: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gpt") / "disk"
    path.write_bytes(bytes(8 << 20))
    layout = "label: gpt\nstart=2048, size=4096, name=one\nstart=8192, size=2048, name=two\n"
    subprocess.run(
        [oracle("sfdisk"), "-q", path], input=layout, text=True, check=True, capture_output=True
    )
    return path.read_bytes()


def test_the_backup_is_read_where_the_first_table_is_damaged(gpt: bytes) -> None:
    whole = read_partitions(open_disk(MemorySource(gpt)))
    assert whole.warnings == ()
    for place in (512, 512 + 16, 512 + 72, 1024 + 3):
        data = bytearray(gpt)
        data[place] ^= 0xFF
        table = read_partitions(open_disk(MemorySource(bytes(data))))
        assert table.partitions == whole.partitions
        assert "backup" in table.warnings[0]


def test_two_damaged_tables_are_damage(gpt: bytes) -> None:
    data = bytearray(gpt)
    data[512 + 16] ^= 0xFF
    data[-512 + 16] ^= 0xFF
    with pytest.raises(Corrupt, match="no sound backup"):
        read_partitions(open_disk(MemorySource(bytes(data))))


def test_an_extended_chain_that_leads_back_is_damage(oracle: Callable[[str], str]) -> None:
    disk = bytearray(4 << 20)
    disk[510:512] = b"\x55\xaa"
    disk[450], disk[454], disk[458] = 5, 100, 200
    place = 100 * 512
    disk[place + 510 : place + 512] = b"\x55\xaa"
    disk[place + 466] = 5  # the next one begins where this one does
    disk[place + 474] = 9
    with pytest.raises(Corrupt, match="leads back"):
        read_partitions(open_disk(MemorySource(bytes(disk))))


def test_a_partition_beyond_the_disk_is_damage_when_it_is_opened(gpt: bytes) -> None:
    cut = open_disk(MemorySource(gpt[: 3 << 20]))
    table = read_partitions(cut)
    with pytest.raises(Corrupt, match="beyond the end"):
        table.partitions[1].slice(cut)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_damaged_tables_end_in_our_errors_only(gpt: bytes, data: st.DataObject) -> None:
    image = bytearray(gpt)
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.sampled_from([440, 512, 1024, len(image) - 512]))
        place += data.draw(st.integers(0, 70))
        image[place : place + 2] = data.draw(st.binary(min_size=2, max_size=2))
    try:
        disk = open_disk(MemorySource(bytes(image)))
        for partition in read_partitions(disk).partitions:
            partition.slice(disk).read_at(0, 512)
    except ImagetoolError as error:
        assert error.exit_code == 3


def test_files_that_are_no_disks_are_said_to_be_none(tmp_path: Path) -> None:
    text = tmp_path / "text.vhdx"
    text.write_text("not a disk\n" * 100, encoding="utf-8")
    with FileSource(text) as source, pytest.raises(Unsupported, match="this is a text file"):
        open_disk(source)
    text.write_bytes(bytes(1000))
    with FileSource(text) as source, pytest.raises(NotRecognised, match="no VHDX file"):
        open_disk(source)
    other = tmp_path / "other.img"
    other.write_bytes(b"QFI\xfb" + bytes(1000))
    with FileSource(other) as source, pytest.raises(Unsupported, match="QCOW2"):
        open_disk(source)
    empty = tmp_path / "empty.vhdx"
    empty.touch()
    for path, words in ((empty, "empty"), (tmp_path, "directory"), (tmp_path / "none", "no such")):
        with pytest.raises(CannotOpen, match=words):
            FileSource(path)
