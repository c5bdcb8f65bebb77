"""The state of an image, recorded while it is read, and compared before anything is changed."""

from __future__ import annotations

import bz2
import hashlib
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures import guests
from fixtures.guests import cached_guest
from imagetool.contracts import Files
from imagetool.disk.local_files import LOCAL_FILES
from imagetool.disk.vhdx import structs as s
from imagetool.disk.vhdx.checksum import checksum_fits
from imagetool.errors import HostFailed, Unreadable
from imagetool.guest.image import open_image
from imagetool.host.reading import HostFiles
from imagetool.host.session import Session
from imagetool.lab.emulated_host import EmulatedHost
from imagetool.lab.session import open_lab
from imagetool.servicing.image_state import ImageState, RecordingFiles, difference, merge
from tests.servicing.injecting import inject

Unpack = Callable[[str], Path]


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with open_lab(EmulatedHost(), engine="python") as opened:
        yield opened


def redirected(session: Session, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is opened on the host from now on, it is that file."""
    operate = session.operate

    def other(operation: str, **parameters: Any) -> object:
        if operation == "open":
            parameters["path"] = str(path)
        return operate(operation, **parameters)

    monkeypatch.setattr(session, "operate", other)


def state_of(path: Path, files: Files = LOCAL_FILES) -> ImageState:
    """The state after the partition table and the installations were read."""
    recording = RecordingFiles(files, str(path))
    with open_image(path, files=recording) as image:
        _ = image.installations
        return recording.record(image.identity)


def test_one_image_has_one_state_on_both_sides(session: Session, unpack: Unpack) -> None:
    for path in (
        cached_guest(guests.SERVER_2012_R2),
        cached_guest(guests.VISTA),
        unpack("disk/mbr-4096-sector.raw.xz"),
    ):
        state, there = state_of(path), state_of(path, HostFiles(session))
        assert state.identity == there.identity
        assert state.last_written == there.last_written
        assert state.last_written is not None
        assert len(state.identity.identifiers) == (0 if state.identity.format == "raw" else 3)
        for files in (LOCAL_FILES, HostFiles(session)):
            for each in (state, there):
                assert difference(files, str(path), each) == ""


def test_the_digest_is_that_of_the_ranges(template: Path) -> None:
    state = state_of(template)
    data = template.read_bytes()
    parts = b"".join(data[offset : offset + length] for offset, length in state.read.ranges)
    assert hashlib.sha256(parts).hexdigest() == state.read.sha256
    assert 10_000 < len(parts) < len(data) // 10


def test_a_changed_byte_that_was_read_is_a_difference(template: Path, tmp_path: Path) -> None:
    """A write that leaves size, time and identifiers as they are is seen none the less."""
    state, copy = state_of(template), tmp_path / "copy.vhdx"
    for offset, length in (state.read.ranges[-1], state.read.ranges[len(state.read.ranges) // 2]):
        shutil.copyfile(template, copy)
        assert difference(LOCAL_FILES, str(copy), state) == ""
        with copy.open("r+b") as file:
            file.seek(offset + length - 1)
            byte = file.read(1)[0]
            file.seek(offset + length - 1)
            file.write(bytes([byte ^ 1]))
        assert "some are others" in difference(LOCAL_FILES, str(copy), state)
    with copy.open("r+b") as file:
        file.truncate(template.stat().st_size - 4096)
    assert "its size is" in difference(LOCAL_FILES, str(copy), state)
    copy.write_bytes(b"nothing of the kind")
    with pytest.raises(Unreadable):
        difference(LOCAL_FILES, str(copy), state)


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 50))), st.integers(0, 220))
def test_merged_ranges_cover_what_was_read_and_nothing_else(
    ranges: list[tuple[int, int]], size: int
) -> None:
    merged = merge(ranges, size)
    covered = {i for offset, length in ranges for i in range(offset, offset + length) if i < size}
    assert {i for offset, length in merged for i in range(offset, offset + length)} == covered
    ends = [offset + length for offset, length in merged]
    assert all(end < start for end, (start, _) in zip(ends, merged[1:], strict=False))
    assert all(length > 0 for _, length in merged)


def with_another_data_write_guid(path: Path) -> None:
    """As every writer leaves a VHDX: both headers have a new DataWriteGuid."""
    from google_crc32c import value as crc32c

    with path.open("r+b") as file:
        for offset in s.HEADER_OFFSETS:
            file.seek(offset)
            header = bytearray(file.read(s.HEADER_SIZE))
            header[32:48] = bytes(range(16))
            header[4:8] = bytes(4)
            struct.pack_into("<I", header, 4, crc32c(bytes(header)))
            assert checksum_fits(bytes(header))
            file.seek(offset)
            file.write(header)


def test_what_was_written_to_is_another_image(
    session: Session, template: Path, tmp_path: Path
) -> None:
    written = tmp_path / "written.vhdx"
    shutil.copyfile(template, written)
    with_another_data_write_guid(written)
    found = difference(HostFiles(session), str(written), state_of(template))
    assert found.startswith("its DataWriteGuid is 03020100-")


def test_size_and_format_and_a_vhds_stamp_count(
    session: Session, testdata: Path, tmp_path: Path
) -> None:
    plain = bz2.decompress((testdata / "disk/virtualpc-dynamic.vhd.bz2").read_bytes())
    one, longer, stamped = (tmp_path / name for name in ("one.vhd", "longer.vhd", "stamped.vhd"))
    one.write_bytes(plain)
    longer.write_bytes(plain[:-512] + bytes(512) + plain[-512:])
    stamp = bytearray(plain)
    for start in (0, len(stamp) - 512):
        stamp[start + 24 : start + 28] = b"\1\2\3\4"
    stamped.write_bytes(stamp)
    raw = tmp_path / "raw.img"
    raw.write_bytes(bytes(len(plain)))
    state, files = state_of(one), HostFiles(session)
    assert "its size is" in difference(files, str(longer), state)
    assert "its TimeStamp is 16909060" in difference(files, str(stamped), state)
    assert "its format is raw, not VHD" in difference(files, str(raw), state)


def test_inject_refuses_where_the_host_has_another_image(
    template: Path, disc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, other = tmp_path / "t.vhdx", tmp_path / "other.vhdx"
    for path in (image, other):
        shutil.copyfile(template, path)
    with_another_data_write_guid(other)
    lab = open_lab(EmulatedHost(), engine="python")
    redirected(lab, other, monkeypatch)
    with pytest.raises(HostFailed, match="another image than was planned"):
        inject(image, disc, lambda: lab, tmp_path / "new.vhdx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.vhdx", "t.vhdx"]
