"""Whether an image here and one on a host are the same, asked before anything is changed."""

from __future__ import annotations

import bz2
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures import guests
from fixtures.guests import cached_guest
from imagetool.disk.vhdx import structs as s
from imagetool.disk.vhdx.checksum import checksum_fits
from imagetool.errors import HostFailed
from imagetool.guest.image import open_image
from imagetool.host.reading import HostFiles
from imagetool.host.session import Session
from imagetool.lab.emulated_host import EmulatedHost
from imagetool.lab.session import LabSession
from imagetool.servicing.identity import check_same_image, identify
from imagetool.servicing.inject import inject

Unpack = Callable[[str], Path]


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with LabSession(EmulatedHost({}), None) as opened:
        yield opened


def redirected(session: Session, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is opened on the host from now on, it is that file."""
    operate = session.operate

    def other(operation: str, **parameters: Any) -> object:
        if operation == "open":
            parameters["path"] = str(path)
        return operate(operation, **parameters)

    monkeypatch.setattr(session, "operate", other)


def test_one_image_has_one_identity_on_both_sides(session: Session, unpack: Unpack) -> None:
    for path in (
        cached_guest(guests.SERVER_2012_R2),
        cached_guest(guests.VISTA),
        unpack("disk/mbr-4096-sector.raw.xz"),
    ):
        check_same_image(session, path, str(path))
        with open_image(path) as here, open_image(str(path), files=HostFiles(session)) as there:
            assert identify(here) == identify(there)
            assert len(identify(here).identifiers) == (0 if here.disk.format == "raw" else 3)


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
    with pytest.raises(HostFailed, match="its DataWriteGuid is 03020100-") as caught:
        check_same_image(session, template, str(written))
    assert caught.value.exit_code == 4
    assert "another image than here" in caught.value.message


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
    with pytest.raises(HostFailed, match="its size is"):
        check_same_image(session, one, str(longer))
    with pytest.raises(HostFailed, match="its TimeStamp is 16909060"):
        check_same_image(session, one, str(stamped))
    raw = tmp_path / "raw.img"
    raw.write_bytes(bytes(len(plain)))
    with pytest.raises(HostFailed, match="its format is raw, not VHD"):
        check_same_image(session, one, str(raw))


def test_a_path_that_leads_nowhere_there_is_the_hosts_failure(
    session: Session, template: Path, tmp_path: Path
) -> None:
    with pytest.raises(HostFailed, match=r"cannot read the image .* no such file") as caught:
        check_same_image(session, template, str(tmp_path / "none.vhdx"))
    assert caught.value.exit_code == 4


def test_inject_refuses_where_the_host_has_another_image(
    template: Path, disc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, other = tmp_path / "t.vhdx", tmp_path / "other.vhdx"
    for path in (image, other):
        shutil.copyfile(template, path)
    with_another_data_write_guid(other)
    lab = LabSession(EmulatedHost({}), None)
    redirected(lab, other, monkeypatch)
    with pytest.raises(HostFailed, match="another image than here"):
        inject(image, disc, lambda: lab, tmp_path / "new.vhdx", allow_unsigned=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.vhdx", "t.vhdx"]
