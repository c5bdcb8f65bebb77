"""inspect and verify from a shell: formats, many images, and inputs that cannot be judged."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fixtures import guests
from fixtures.disks import MIB
from fixtures.disks import run as run_tool
from fixtures.guests import cached_guest
from imagetool.errors import CannotOpen
from imagetool.guest.image import open_image
from tests.cli.test_cli import AUTO, VALUE
from tests.program import invoke, refused, run


def test_several_images_have_a_line_each(template: Path, tmp_path: Path) -> None:
    for name in ("a.vhdx", "b.vhdx"):
        (tmp_path / name).symlink_to(template)
    (tmp_path / "c.vhdx").write_text("a text")
    done = run("verify", tmp_path / "*.vhdx", "--at-least", "6.3.9600.19456")
    assert done.returncode == 3
    lines = done.stdout.splitlines()
    assert lines.pop() == "2 judged: 0 hold, 2 fail; 1 could not be read"
    assert len(lines) == 3
    assert lines[0].startswith(f"{tmp_path / 'a.vhdx'}: outdated (confirmed fails): present 6.3")
    assert lines[2] == f"{tmp_path / 'c.vhdx'}: unknown"
    assert done.stderr.startswith(f"imagetool: {tmp_path / 'c.vhdx'}: this is a text file")


def test_junit_is_well_formed_whatever_an_image_is_called(template: Path, tmp_path: Path) -> None:
    hostile = tmp_path / 'x"<&>\x01\u202e\ud83d\ude00.vhdx'.encode("utf-8", "surrogatepass").decode(
        "utf-8", "replace"
    )
    Path(hostile).symlink_to(template)
    report = tmp_path / "report.xml"
    done = run("verify", template, hostile, tmp_path / "none.vhdx", "--format", "junit",
               "--at-least", "6.3.9600.19456", "--output", report)  # fmt: skip
    assert done.returncode == 3
    assert done.stdout == ""
    (suite,) = ElementTree.fromstring(report.read_text(encoding="utf-8"))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "2", "1")
    cases = suite.findall("testcase")
    assert cases[0].find("failure").get("type") == "outdated"
    assert "\\x01" in cases[1].get("name")
    assert "no such file" in cases[2].find("error").get("message")
    assert "no such directory" in refused(7, "verify", template, "--output", tmp_path / "no/x")


def test_json_holds_all_the_evidence(template: Path) -> None:
    data = json.loads(run("verify", template, "--format", "json").stdout)["images"][0]
    assert {"verdict", "holds", "reasons", "present", "bound", "recorded", "wanted"} <= data.keys()
    evidence = data["evidence"]
    assert evidence["recorded_at"] == "2024-03-06T07:15:00Z"
    assert evidence["storvsc_sys"] == evidence["vmbus_sys"] == "6.3.9600.16384"
    services = {item["name"]: item["effective_start"] for item in evidence["services"]}
    assert services["vmbus"] == 0
    assert services["vmickvpexchange"] == 3
    assert [item["state_name"] for item in evidence["in_box_packages"]] == ["installed"]
    data = json.loads(run("inspect", template, "--format", "json").stdout)
    assert data["schema"] == "imagetool/inspect/1"
    image = data["images"][0]
    assert image["guest"]["system"] == "Windows"
    assert image["pending"] == {"operations": [], "notes": []}
    assert image["warnings"] == []


def test_several_packages_want_the_newest(template: Path, disc: Path, tmp_path: Path) -> None:
    from fixtures.cabinets import STORED, write_cabinet
    from fixtures.packages import package_files

    older = tmp_path / "older.cab"
    older.write_bytes(write_cabinet(package_files("6.2", "amd64", "6.3.9600.18692"), STORED))
    for packages in ([disc, older], [older, disc]):
        options = [part for package in packages for part in ("--package", package)]
        done = run("verify", template, *options, "--format", "json")
        assert json.loads(done.stdout)["images"][0]["wanted"] == "6.3.9600.19456"


@pytest.fixture(scope="session")
def two_windows(oracle: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with two Windows installations: the same volume twice."""
    from fixtures.disks import copy_data

    oracle("sfdisk")
    folder = tmp_path_factory.mktemp("two")
    raw, volume, target = folder / "raw", folder / "volume", folder / "two.vhdx"
    with open_image(cached_guest(guests.SMALL)) as image:
        source = image.windows().block_device.source
        with volume.open("wb") as file:
            for offset in range(0, source.size, MIB):
                data = source.read_at(offset, MIB)
                if data.strip(b"\0"):
                    file.seek(offset)
                    file.write(data)
            file.truncate(source.size)
    size = -(-volume.stat().st_size // MIB) * MIB
    with raw.open("wb") as file:
        file.truncate(2 * size + 2 * MIB)
    rows = [f"start={start // 512}, size={size // 512}, type=7" for start in (MIB, MIB + size)]
    run_tool("sfdisk", "-q", raw, text="\n".join(["label: dos", *rows]) + "\n")
    for start in (MIB, MIB + size):
        copy_data(volume, raw, start)
    run_tool("qemu-img", "convert", "-O", "vhdx", "-o", "subformat=dynamic", raw, target)
    raw.unlink()
    volume.unlink()
    return target


def test_of_two_installations_one_must_be_chosen(two_windows: Path) -> None:
    message = refused(3, "verify", two_windows)
    assert "volume 1 (Windows Server 2012 R2 Standard) and volume 2" in message
    refused(3, "inspect", two_windows)
    refused(3, "registry", "get", two_windows, AUTO, VALUE)
    refused(3, "file", "list", two_windows)
    for number in ("1", "2"):
        assert run("verify", two_windows, "--volume", number).returncode == 0
        done = run("registry", "get", two_windows, AUTO, VALUE, "--volume", number)
        assert done.stdout == "6.3.9600.16384\n"
    assert run("disk", "map", two_windows).returncode == 0


COMMANDS = (
    ("verify",),
    ("inspect",),
    ("disk", "map"),
    ("registry", "get", AUTO, VALUE),
    ("file", "list"),
)


def everywhere(code: int, image: Path) -> set[str]:
    """The sentence of each command that reads an image, which all refuse."""
    found = set()
    for command in COMMANDS:
        count = 2 if len(command) > 1 else 1
        found.add(refused(code, *command[:count], image, *command[count:]))
    return found


def test_what_is_no_image(tmp_path: Path, template: Path) -> None:
    path = tmp_path / "x.vhdx"
    assert all("no such file" in text for text in everywhere(3, path))
    path.write_bytes(b"")
    assert all("empty" in text for text in everywhere(3, path))
    path.write_text("this is a text\n" * 100)
    assert all("a text file" in text for text in everywhere(3, path))
    (tmp_path / "folder").mkdir()
    assert all("directory" in text for text in everywhere(3, tmp_path / "folder"))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert all("pipe or a device" in text for text in everywhere(3, tmp_path / "pipe"))
        assert "pipe or a device" in refused(3, "verify", "/dev/zero")
    whole = template.read_bytes()
    for size in (8, 70000, 300000, 3 << 20, 20 << 20):
        path.write_bytes(whole[:size])
        for text in everywhere(3, path) if size < (3 << 20) else {refused(3, "verify", path)}:
            assert str(path) in text


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such mode")
def test_without_permission(tmp_path_factory: pytest.TempPathFactory) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = Path(folder, "x.vhdx")
        path.write_bytes(b"vhdxfile")
        path.chmod(0)
        Path(folder).chmod(0o755)
        was = os.geteuid()
        if not was:
            os.seteuid(65534)  # root may read everything
        try:
            with pytest.raises(CannotOpen, match="permission") as caught:
                open_image(path)
        finally:
            os.seteuid(was)
        assert caught.value.exit_code == 3


@pytest.mark.skipif(os.name == "nt", reason="on Windows it depends on the system's settings")
def test_a_name_that_is_too_long_is_said_alike_by_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "python")
    for name in ("x" * 300, "x" * 300 + ".vhdx", "x" * 300 + "/t.vhdx", "x/" * 2500 + "t.vhdx"):
        path = f"{tmp_path}/{name}"
        for image in (path, f"lab:{path}"):
            for arguments in (
                ("inspect", image),
                ("inspect", image, "--recursive"),
                ("verify", image),
                ("file", "list", image, "Windows"),
                ("registry", "list", image, "HKLM\\SYSTEM"),
                ("disk", "map", image),
            ):
                said = refused(3, *arguments)
                assert said == f"imagetool: {image}: the name is too long for this system"
        for arguments in (("package", "show", path), ("package", "check", path)):
            said = refused(3, *arguments)
            assert said == f"imagetool: {path}: the name is too long for this system"


def test_no_operating_system_is_no_obstacle_to_looking(tmp_path: Path) -> None:
    path = tmp_path / "zeros.raw"
    path.write_bytes(bytes(4 << 20))
    assert "no Windows was found" in refused(3, "verify", path)
    assert run("inspect", path).returncode == 0
    assert run("disk", "map", path).returncode == 0
    assert "no file system" in refused(3, "file", "list", path)


def test_an_encrypted_volume_is_said_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "locked.raw"
    boot = bytearray(4 << 20)
    boot[:11] = b"\xeb\x58\x90-FVE-FS-"
    boot[510:512] = b"\x55\xaa"
    path.write_bytes(boot)
    for command in (("verify", path), ("file", "list", path)):
        done = run(*command)
        assert done.returncode == 3
        assert "encrypted (BitLocker)" in done.stderr
        assert "manage-bde" in done.stderr
    done = run("inspect", path)
    assert done.returncode == 0
    assert "encrypted" in done.stdout
    path.write_bytes(b"LUKS\xba\xbe\x00\x02" + bytes(1 << 20))
    assert "encrypted (LUKS)" in refused(3, "verify", path)


@pytest.mark.usefixtures("writers")
def test_a_damaged_hive_and_a_damaged_record_name_their_place(
    template: Path, tmp_path: Path
) -> None:
    from imagetool.lab.workers import FileChange, write_files

    path = Path(shutil.copyfile(template, tmp_path / "x.vhdx"))
    with open_image(path) as image:
        partition = image.windows().block_device.partition
        hive = image.windows().volume.lookup("Windows/System32/config/SOFTWARE").open()
        data = bytearray(hive.read_at(0, hive.size))
        number = image.windows().volume.lookup("Windows/System32/config/SYSTEM")._record.number
        mft = image.windows().volume._mft.extents_at(number * 1024, 1024)[0][0]
        block, inside = divmod(partition.offset + mft, image.disk.metadata.block_size)
        place = image.disk.bat.offset_of(block) + inside
    struct.pack_into("<i", data, 4096 + 32, -99999999)
    change = [FileChange("Windows\\System32\\config\\SOFTWARE", bytes(data))]
    write_files(path, partition.offset, partition.size, change)
    assert "hive cell at offset 4128" in refused(3, "verify", path)
    path = Path(shutil.copyfile(template, tmp_path / "y.vhdx"))
    with path.open("r+b") as file:
        file.seek(place)
        assert file.read(4) == b"FILE"
        file.seek(place)
        file.write(b"BAAD")
    assert "begins with b'BAAD'" in refused(3, "verify", path)


def test_a_linux_guest_is_unknown_and_never_in_box(tmp_path: Path, oracle: object) -> None:
    from fixtures.linux import make_ext, write_tree

    oracle("mkfs.ext4")  # type: ignore[operator]
    tree = tmp_path / "tree"
    tree.mkdir()
    write_tree(tree, many=3)
    path = tmp_path / "linux.raw"
    make_ext(path, tree, "ext4", size=64 * MIB)
    assert "not looked into yet" in refused(3, "verify", path)
    assert "not looked into yet" in refused(3, "verify", path, "--service", "kvp")
    done = run("inspect", path)
    assert done.returncode == 0
    assert "Linux, Fixture GNU/Linux 12 (stand-in)" in done.stdout
    listed = run("file", "list", path, "/etc").stdout
    assert "os-release" in listed
    assert 'NAME="Fixture"' in run("file", "read", path, "etc/os-release").stdout
    target = tmp_path / "out"
    assert run("file", "extract", path, "boot/vmlinuz", target).returncode == 0
    assert subprocess.run(["cmp", target, tree / "boot/vmlinuz"], check=False).returncode == 0


def test_a_tree_is_extracted_and_links_are_left_out(template: Path, tmp_path: Path) -> None:
    target = tmp_path / "servicing"
    done = run("file", "extract", template, "Windows/servicing", target)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in target.rglob("*") if path.is_file())
    assert any(name.endswith(".mum") for name in names)
    assert f"{len(names)} files" in done.stderr
    for path in target.rglob("*"):
        if path.is_file():
            inside = f"Windows/servicing/{path.relative_to(target).as_posix()}"
            assert invoke("file", "read", template, inside).out == path.read_bytes()
    again = ("Windows/servicing/Packages", target)
    assert "already" in refused(7, "file", "extract", template, *again)
    small = ("--max-size", "10")
    assert "--max-size" in refused(
        7, "file", "extract", template, "Windows", tmp_path / "x", *small
    )


def test_the_tree_of_a_linux_volume_leaves_links_out(tmp_path: Path, oracle: object) -> None:
    from fixtures.linux import hashes, make_ext, write_tree

    oracle("mkfs.ext4")  # type: ignore[operator]
    tree = tmp_path / "tree"
    tree.mkdir()
    write_tree(tree, many=3)
    path = tmp_path / "linux.raw"
    make_ext(path, tree, "ext4", size=64 * MIB)
    target = tmp_path / "out"
    done = run("file", "extract", path, "/", target)
    assert done.returncode == 0, done.stderr
    assert hashes(target) == hashes(tree)
    assert "etc/loop: a link" in done.stderr
    assert not any(item.is_symlink() for item in target.rglob("*"))


def sector(label: bytes) -> bytes:
    """A boot sector that says what its volume is."""
    block = bytearray(512)
    block[: len(label)] = label
    block[510:] = b"\x55\xaa"
    return bytes(block)


def test_what_would_hinder_is_warned_of(template: Path, tmp_path: Path, oracle: object) -> None:
    """Dynamic disks, ReFS, BitLocker beside the volume of Windows."""
    oracle("sfdisk")  # type: ignore[operator]
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(32 * MIB)
    rows = ["label: dos", *(f"start={start}, size=4096, type={kind}" for start, kind in
            ((2048, "42"), (8192, "7"), (16384, "7")))]  # fmt: skip
    run_tool("sfdisk", "-q", path, text="\n".join(rows) + "\n")
    with path.open("r+b") as file:
        file.seek(8192 * 512)
        file.write(sector(b"\0\0\0ReFS\0\0\0\0"))
        file.seek(16384 * 512)
        file.write(sector(b"\xeb\x58\x90-FVE-FS-"))
    done = run("inspect", path)
    assert done.returncode == 0
    for words in ("belongs to a dynamic disk", "volume 2 is ReFS", "encrypted (BitLocker)"):
        assert words in done.stdout
    with path.open("rb+") as file:
        rows = ["label: gpt", "start=2048, size=4096, type=E75CAF8F-F680-4CEE-AFA3-B001E56EFC2D"]
        run_tool("sfdisk", "-q", path, text="\n".join(rows) + "\n")
    assert "Storage Spaces" in run("inspect", path).stdout


@pytest.mark.usefixtures("writers")
def test_a_dirty_hive_in_a_guest_is_replayed_and_said(
    template: Path, testdata: Path, tmp_path: Path
) -> None:
    """Windows 10's own dirty SYSTEM and its logs, in the place of the guest's."""
    import lzma

    from imagetool.lab.workers import FileChange, write_files

    path = Path(shutil.copyfile(template, tmp_path / "x.vhdx"))
    changes = []
    for suffix in ("", ".LOG1", ".LOG2"):
        packed = testdata / f"hive/windows10-SYSTEM-dirty{suffix}.xz"
        data = lzma.decompress(packed.read_bytes())
        changes.append(FileChange(f"Windows\\System32\\config\\SYSTEM{suffix}", data))
    with open_image(path) as image:
        partition = image.windows().block_device.partition
    write_files(path, partition.offset, partition.size, changes)
    key = "ControlSet001\\Control\\Class\\{4d36e967-e325-11ce-bfc1-08002be10318}\\0003"
    done = run("registry", "get", path, f"HKLM\\SYSTEM\\{key}", "DriverVersion")
    assert done.stdout == "10.0.16299.251\n"
    done = run("inspect", path)
    assert "SYSTEM: the hive is dirty; its transaction logs were replayed in memory" in done.stdout
    assert "vmbus (3), storvsc (3), storflt (3): an override keeps them from" in done.stdout
    assert "on Dell Inc. Latitude E6430" in done.stdout
    changes = [FileChange(f"{change.path}", b"\0" * 512) for change in changes[1:]]
    write_files(path, partition.offset, partition.size, changes)
    assert "the hive is dirty, and not recovered" in run("inspect", path).stdout


@pytest.mark.usefixtures("writers")
def test_a_dirty_or_hibernated_volume_is_read_and_said(template: Path, tmp_path: Path) -> None:
    from imagetool.lab.workers import FileChange, write_files

    path = Path(shutil.copyfile(template, tmp_path / "x.vhdx"))
    with open_image(path) as image:
        partition = image.windows().block_device.partition
        flags = image.windows().volume._mft.extents_at(3 * 1024, 1024)[0][0]
        block, inside = divmod(partition.offset + flags, image.disk.metadata.block_size)
        place = image.disk.bat.offset_of(block) + inside
    change = [FileChange("hiberfil.sys", b"hibr" + bytes(4092))]
    write_files(path, partition.offset, partition.size, change)
    with path.open("r+b") as file:
        file.seek(place)
        record = file.read(1024)
        # $VOLUME_INFORMATION: eight bytes, the version 3.1, the flags.
        found = record.index(b"\x70\0\0\0", 56)
        file.seek(place + found + 24 + 10)
        file.write(b"\1")
    done = run("inspect", path)
    assert done.returncode == 0
    assert "the volume is marked dirty" in done.stdout
    assert "the volume is hibernated" in done.stdout
    assert run("verify", path).returncode == 0
