"""The log of a VHDX, replayed: QEMU's dirty disk, stale entries of others, and damage."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetool.disk import MemorySource, open_disk
from imagetool.errors import Corrupt, ImagetoolError

Unpack = Callable[[str], Path]
HEADERS = (65536, 131072)


@pytest.fixture(scope="module")
def dirty(unpack: Unpack) -> bytes:
    return unpack("disk/iotest-dirtylog-10G-4M.vhdx.bz2").read_bytes()


def place_of_log(image: bytes) -> tuple[int, int]:
    """Offset and length of the log, by the newest header."""
    header = max(HEADERS, key=lambda place: struct.unpack_from("<Q", image, place + 8)[0])
    length, offset = struct.unpack_from("<IQ", image, header + 68)
    return offset, length


def test_the_last_write_is_in_the_log_and_is_read(dirty: bytes) -> None:
    disk = open_disk(MemorySource(dirty, "dirty.vhdx"))
    assert disk.size == 10 << 30
    assert "log was replayed in memory" in disk.warnings[0]
    assert disk.read_at(0, 18 << 20) == b"\xa5" * (18 << 20)
    assert disk.read_at(18 << 20, 1 << 20) == bytes(1 << 20)
    assert disk.bat.offset_of(17) == 0x1D00000  # type: ignore[attr-defined]
    # The hash of the whole that QEMU's own reader gives is that of these bytes, and zeros behind.
    covered = 0
    for start, length in disk.allocated_ranges():
        data = disk.read_at(start, length)
        ours = max(0, min(length, (18 << 20) - start))
        assert data == b"\xa5" * ours + bytes(length - ours)
        covered += ours
    assert covered == 18 << 20


def test_without_its_log_the_disk_would_lack_its_last_write(dirty: bytes) -> None:
    clean = bytearray(dirty)
    for place in HEADERS:
        clean[place + 48 : place + 64] = bytes(16)
        struct.pack_into("<I", clean, place + 4, 0)
        crc = google_crc32c.value(bytes(clean[place : place + 4096]))
        struct.pack_into("<I", clean, place + 4, crc)
    disk = open_disk(MemorySource(bytes(clean)))
    assert disk.warnings == ()
    assert disk.read_at(17 << 20, 4096) == bytes(4096)


@pytest.mark.parametrize(
    "name", ["disk/server2022-dynamic-ntfs.vhdx.zip", "disk/iotest-dynamic-1G.vhdx.bz2"]
)
def test_stale_entries_of_a_clean_disk_stay_out(unpack: Unpack, name: str) -> None:
    assert open_disk(MemorySource(unpack(name).read_bytes())).warnings == ()


def test_a_torn_log_is_damage(dirty: bytes) -> None:
    image = bytearray(dirty)
    offset, length = place_of_log(dirty)
    for place in range(offset, offset + length, 4096):
        image[place + 100] ^= 0xFF
    with pytest.raises(Corrupt, match="no sound sequence"):
        open_disk(MemorySource(bytes(image)))


def test_a_file_shorter_than_its_log_knows_it_is_truncated(dirty: bytes) -> None:
    with pytest.raises(Corrupt, match=r"truncated|ends at|beyond the end|had \d+ when"):
        open_disk(MemorySource(dirty[: len(dirty) - (8 << 20)])).read_at(0, 1 << 20)


def test_entries_that_all_claim_the_whole_log_take_no_time(dirty: bytes) -> None:
    image = bytearray(dirty)
    offset, length = place_of_log(dirty)
    head = image[offset : offset + 64]
    for place in range(offset, offset + length, 4096):
        image[place : place + 64] = head
        image[place : place + 4] = b"loge"
        struct.pack_into("<I", image, place + 8, length)
    begun = time.process_time()
    with pytest.raises(Corrupt):
        open_disk(MemorySource(bytes(image)))
    assert time.process_time() - begun < 5


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.data())
def test_a_damaged_log_ends_in_our_errors_only(dirty: bytes, data: st.DataObject) -> None:
    image = bytearray(dirty)
    offset, length = place_of_log(dirty)
    for _ in range(data.draw(st.integers(1, 5))):
        place = offset + data.draw(st.integers(0, length // 4096 - 1)) * 4096
        place += data.draw(st.integers(0, 130))
        image[place] = data.draw(st.integers(0, 255))
    try:
        open_disk(MemorySource(bytes(image), "damaged")).read_at(17 << 20, 4096)
    except ImagetoolError as error:
        assert error.exit_code == 3
