"""What the lab writes, checked with readers that are not its writers."""

from __future__ import annotations

import hashlib
import io
import random
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from imagetool.disk import FileSource, MemorySource, open_disk, read_partitions
from imagetool.errors import ServicingFailed
from imagetool.filesystem import open_volume
from imagetool.guest.image import open_image
from imagetool.guest.windows.payload import installed_path
from imagetool.lab.boot import boot
from imagetool.lab.cmdlet import CmdletFailure, StreamRecord
from imagetool.lab.disks.writable import WritableDisk
from imagetool.lab.package_layout import path_in_guest
from imagetool.lab.packages import add_package
from imagetool.lab.workers import FileChange, KeyChange, change_hive, write_files
from imagetool.package import open_package
from imagetool.package.identity import Identity
from imagetool.registry import Hive

Oracle = Callable[[str], str]
pytestmark = pytest.mark.usefixtures("writers")
WINDOWS = 4
IDENTITY = "Microsoft-Hyper-V-Integration-Services-Package-2~31bf3856ad364e35~amd64~~6.3.9600.19456"


@pytest.fixture
def image(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(template, tmp_path / "image.vhdx"))


@pytest.fixture(scope="session")
def cabinet(disc: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cabinet") / "package.cab"
    with open_package(disc) as media:
        path.write_bytes(media.packages[0].read_cabinet())
    return path


def silent(said: StreamRecord) -> None:
    return None


def place(image: Path) -> tuple[int, int]:
    with FileSource(image) as source:
        partition = read_partitions(open_disk(source)).partitions[WINDOWS - 1]
        return partition.offset, partition.size


def raw_of(oracle: Oracle, image: Path, target: Path) -> Path:
    """The whole disk as qemu-img sees it."""
    subprocess.run([oracle("qemu-img"), "check", "-q", image], check=True, capture_output=True)
    subprocess.run(
        [oracle("qemu-img"), "convert", "-O", "raw", image, target], check=True, capture_output=True
    )
    return target


def test_writes_into_a_disk_are_read_by_qemu_and_libvhdi(oracle: Oracle, tmp_path: Path) -> None:
    import pyvhdi

    path, mirror = tmp_path / "disk.vhdx", bytearray(40 << 20)
    subprocess.run(
        [oracle("qemu-img"), "create", "-q", "-f", "vhdx", "-o", "block_size=1M", path, "40M"],
        check=True,
    )
    with FileSource(path) as source:
        before = open_disk(source).identifiers
    noise = random.Random(8)
    with WritableDisk(path) as disk:
        for _ in range(60):
            offset = noise.randrange(0, (40 << 20) - 70_000)
            data = noise.randbytes(noise.randrange(1, 70_000))
            disk.write_at(offset, data)
            mirror[offset : offset + len(data)] = data
            assert disk.read_at(offset, len(data)) == data
    assert raw_of(oracle, path, tmp_path / "raw").read_bytes() == mirror
    foreign = pyvhdi.file()
    foreign.open(str(path))
    assert foreign.read_buffer_at_offset(40 << 20, 0) == bytes(mirror)
    with FileSource(path) as source:
        after = open_disk(source).identifiers
    assert after["VirtualDiskId"] == before["VirtualDiskId"]
    assert after["DataWriteGuid"] != before["DataWriteGuid"]


def test_files_written_into_a_volume_are_found_by_the_sleuth_kit(
    oracle: Oracle, image: Path, tmp_path: Path
) -> None:
    offset, size = place(image)
    large = random.Random(3).randbytes(2_500_000)
    changes = [
        FileChange("WINDOWS\\system32\\ICSVC.DLL", b"replaced"),
        FileChange("Windows\\New Folder\\Ünïcode é.bin", large),
        FileChange("Windows\\Empty", None),
    ]
    write_files(image, offset, size, changes)
    raw = raw_of(oracle, image, tmp_path / "raw")
    listed = subprocess.run(
        [oracle("fls"), "-r", "-p", "-u", "-o", str(offset // 512), raw],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "Windows/New Folder/Ünïcode é.bin" in listed
    assert "Windows/Empty" in listed
    assert listed.lower().count("/icsvc.dll\n") == 1  # in place, not beside
    inode = next(line for line in listed.splitlines() if "Ünïcode" in line).split()[1].strip(":")
    read = subprocess.run(
        [oracle("icat"), "-o", str(offset // 512), raw, inode], check=True, capture_output=True
    )
    assert read.stdout == large
    with FileSource(image) as source:
        volume = open_volume(
            read_partitions(open_disk(source)).partitions[3].slice(open_disk(source))
        )
        assert volume.warnings == ()


def test_a_hive_is_changed_as_libregf_reads_it(template: Path, tmp_path: Path) -> None:
    import pyregf

    with open_image(template) as opened:
        node = opened.windows().volume.lookup("Windows\\System32\\config\\SOFTWARE")
        source = node.open()
        hive = tmp_path / "SOFTWARE"
        hive.write_bytes(source.read_at(0, source.size))
    moment = datetime(2025, 6, 7, 8, 9, 10, tzinfo=UTC)
    keys = [
        KeyChange("Microsoft\\Virtual Machine\\Auto").set_sz(
            "IntegrationServicesVersion", "1.2.3.4"
        ),
        KeyChange("A\\B\\C")
        .set_dword("n", 7)
        .set_multi_sz("m", ["x", "y"])
        .set_binary("b", b"\1\2"),
    ]
    change_hive(hive, keys, moment)
    changed = hive.read_bytes()
    foreign = pyregf.file()
    foreign.open_file_object(io.BytesIO(changed))
    auto = foreign.get_key_by_path("\\Microsoft\\Virtual Machine\\Auto")
    assert auto.get_value_by_name("IntegrationServicesVersion").get_data_as_string() == "1.2.3.4"
    assert auto.get_last_written_time() == moment.replace(tzinfo=None)
    made = foreign.get_key_by_path("\\A\\B\\C")
    assert made.get_value_by_name("n").get_data_as_integer() == 7
    assert Hive(MemorySource(changed)).key("a\\b\\c").get("m") == ["x", "y"]
    assert auto.get_value_by_name("OSName").data  # what was there stays


def test_a_writer_that_dies_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ServicingFailed, match="the emulated host cannot write the image"):
        write_files(tmp_path / "none.vhdx", 0, 1, [])
    with pytest.raises(ServicingFailed, match="opening the hive"):
        (tmp_path / "hive").write_bytes(b"no hive")
        change_hive(tmp_path / "hive", [], datetime.now(UTC))


def software(oracle: Oracle, image: Path, tmp_path: Path) -> object:
    """The SOFTWARE hive as The Sleuth Kit extracts it and libregf opens it."""
    import pyregf

    raw = raw_of(oracle, image, tmp_path / "raw")
    where = ["-o", str(place(image)[0] // 512)]
    listed = subprocess.run(
        [oracle("fls"), "-r", "-p", *where, raw], check=True, capture_output=True, text=True
    ).stdout
    line = next(row for row in listed.splitlines() if row.endswith("config/SOFTWARE"))
    inode = line.split()[1].strip(":")
    data = subprocess.run([oracle("icat"), *where, raw, inode], check=True, capture_output=True)
    hive = pyregf.file()
    hive.open_file_object(io.BytesIO(data.stdout))
    return hive


def test_a_package_and_a_boot_are_seen_by_foreign_readers(
    oracle: Oracle, image: Path, cabinet: Path, tmp_path: Path
) -> None:
    add_package(image, WINDOWS, cabinet, silent)
    cbs = f"\\Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\Packages\\{IDENTITY}"
    hive = software(oracle, image, tmp_path)
    key = hive.get_key_by_path(cbs)  # type: ignore[attr-defined]
    assert key.get_value_by_name("CurrentState").get_data_as_integer() == 0x60
    auto = hive.get_key_by_path("\\Microsoft\\Virtual Machine\\Auto")  # type: ignore[attr-defined]
    value = auto.get_value_by_name("IntegrationServicesVersion")
    assert value.get_data_as_string() == "6.3.9600.16384"  # no package writes it
    done = boot(image)
    assert (done.installed, done.recorded, str(done.driver)) == (
        (IDENTITY,),
        True,
        "6.3.9600.19456",
    )
    hive = software(oracle, image, tmp_path)
    key = hive.get_key_by_path(cbs)  # type: ignore[attr-defined]
    assert key.get_value_by_name("CurrentState").get_data_as_integer() == 0x70
    auto = hive.get_key_by_path("\\Microsoft\\Virtual Machine\\Auto")  # type: ignore[attr-defined]
    value = auto.get_value_by_name("IntegrationServicesVersion")
    assert value.get_data_as_string() == "6.3.9600.19456"
    mark = hive.get_key_by_path("\\imagetool\\Lab")  # type: ignore[attr-defined]
    assert {value.name for value in mark.values} == {"Serviced", "Booted"}


def test_a_guest_whose_data_exchange_is_disabled_records_nothing(
    image: Path, cabinet: Path, tmp_path: Path
) -> None:
    offset, size = place(image)
    hive = tmp_path / "SYSTEM"
    with open_image(image) as opened:
        windows = opened.windows()
        node = windows.volume.lookup("Windows\\System32\\config\\SYSTEM").open()
        services = f"{windows.control_set}\\Services\\vmickvpexchange"
        hive.write_bytes(node.read_at(0, node.size))
    change_hive(hive, [KeyChange(services).set_dword("Start", 4)], datetime.now(UTC))
    write_files(image, offset, size, [FileChange("Windows\\System32\\config\\SYSTEM", hive)])
    add_package(image, WINDOWS, cabinet, silent)
    assert not boot(image).recorded
    with open_image(image) as opened:
        key = opened.windows().software.key("Microsoft\\Virtual Machine\\Auto")
        assert key.get("IntegrationServicesVersion") == "6.3.9600.16384"


def test_a_package_that_is_damaged_or_for_another_system_is_refused_as_dism_does(
    image: Path, disc: Path, tmp_path: Path
) -> None:
    before = hashlib.sha256(image.read_bytes()).hexdigest()
    bad, other = tmp_path / "bad.cab", tmp_path / "other.cab"
    with open_package(disc) as media:
        bad.write_bytes(media.packages[0].read_cabinet()[:5000])
        other.write_bytes(media.packages[1].read_cabinet())
    for path, code in ((bad, 0x800F0805), (other, 0x800F081E)):
        said: list[StreamRecord] = []
        with pytest.raises(CmdletFailure) as caught:
            add_package(image, WINDOWS, path, said.append)
        assert caught.value.hresult == code
        assert f"0x{code:08x}" in said[-1].text
    assert hashlib.sha256(image.read_bytes()).hexdigest() == before


PACKAGE = "Microsoft-Hyper-V-Integration-Services-Package-2~31bf3856ad364e35~amd64~~6.3.9600.18692"
COMPONENT = "amd64_wvmbusvideo.inf_31bf3856ad364e35_6.3.9600.18692_none_43e9d279b3361514"
WHERE = {
    "update.mum": f"Windows\\servicing\\Packages\\{PACKAGE}.mum",
    "update.cat": f"Windows\\servicing\\Packages\\{PACKAGE}.cat",
    f"{COMPONENT}.manifest": f"Windows\\WinSxS\\Manifests\\{COMPONENT}.manifest",
    f"{COMPONENT}/vmbusvideom.sys": f"Windows\\WinSxS\\{COMPONENT}\\vmbusvideom.sys",
    f"{COMPONENT}/wvmbusvideo.inf": f"Windows\\WinSxS\\{COMPONENT}\\wvmbusvideo.inf",
}
"""Of names in Microsoft's package, the paths that Windows gives them when it is installed."""


@pytest.mark.parametrize("member", WHERE)
def test_the_host_and_the_proof_know_each_by_itself_where_a_file_goes(member: str) -> None:
    identity = Identity.parse(PACKAGE)
    assert identity is not None
    assert path_in_guest(member, identity) == WHERE[member]
    assert installed_path(member, identity) == WHERE[member]
