"""Linux volumes that were answered wrongly: blocks, names, systems without an os-release."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fixtures.disks import MIB
from fixtures.linux import make_ext, make_xfs
from imagetool.disk import FileSource, MemorySource
from imagetool.filesystem import open_volume, recognise
from imagetool.filesystem.extract import Extraction
from imagetool.guest.image import open_image
from imagetool.guest.inspection import inspect_image
from tests.conftest import tool
from tests.program import run

Unpack = Callable[[str], Path]


@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        ("ext4-bigalloc-1k", "/hello", "hello\n"),
        ("ext4-metabg-sparse_super2", "d1/f", "1\n"),
        ("ext4-backslash-name", "lnk", "[Unit]\nDescription=slice\n"),
    ],
)
def test_a_file_is_read(unpack: Unpack, name: str, path: str, expected: str) -> None:
    assert run("file", "read", unpack(f"found/{name}.raw.xz"), path).stdout == expected


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (("-O", "bigalloc", "-b", "1024", "-C", "4096"), 64),
        (("-O", "bigalloc", "-b", "2048", "-C", "16384"), 64),
        (("-O", "meta_bg,^resize_inode,sparse_super2", "-b", "1024", "-g", "1024"), 64),
        (("-O", "meta_bg,^resize_inode,^sparse_super", "-b", "4096", "-g", "4096"), 256),
        (("-O", "sparse_super2,64bit", "-b", "1024"), 64),
    ],
)
def test_descriptors_of_groups_lie_where_mke2fs_puts_them(
    tmp_path: Path, options: Sequence[str], size: int
) -> None:
    """Compared with debugfs, which finds the table of every group."""
    debugfs = tool("debugfs")
    tree = tmp_path / "tree"
    for number in range(60):  # directories are spread over the groups
        (tree / f"d{number}").mkdir(parents=True)
        (tree / f"d{number}" / "f").write_bytes(b"%d" % number)
    make_ext(tmp_path / "v", tree, "ext4", *options, size=size * MIB)
    with FileSource(tmp_path / "v") as file:
        volume = open_volume(file)
        for number in range(60):
            asked = subprocess.run(
                [debugfs, "-R", f"cat d{number}/f", tmp_path / "v"], capture_output=True, check=True
            )
            assert volume.lookup(f"d{number}/f").open().read_at(0, 9) == asked.stdout


def test_backslashes_and_colons_are_part_of_names_on_linux(tmp_path: Path) -> None:
    tool("mkfs.ext4")
    tree = tmp_path / "tree"
    (tree / "a\\b").mkdir(parents=True)
    (tree / "a\\b" / "c:d").write_bytes(b"one")
    (tree / "a:b").write_bytes(b"two")
    (tree / "link").symlink_to("a\\b/c:d")
    make_ext(tmp_path / "v", tree, "ext4", size=16 * MIB)
    for path, expected in (("a\\b/c:d", "one"), ("a:b", "two"), ("/link", "one")):
        assert run("file", "read", tmp_path / "v", path).stdout == expected
    assert run("file", "read", tmp_path / "v", "a/b/c:d").returncode == 1
    done = run("file", "extract", tmp_path / "v", "/", tmp_path / "out")
    assert repr("a\\b") in done.stderr  # no name for every system, so it is left out, and said


def test_fat32_is_known_by_its_table_whatever_the_clusters_are(
    unpack: Unpack, tmp_path: Path
) -> None:
    done = run("file", "list", unpack("found/fat32-few-clusters.raw.xz"))
    assert "6000  BOOTX64.EFI" in done.stdout
    path = tmp_path / "v"
    with path.open("wb") as file:
        file.truncate(70200 * 512)
    subprocess.run([tool("mkfs.fat"), "-F", "32", "-s", "1", path], check=True, capture_output=True)
    (tmp_path / "hello").write_bytes(b"hello")
    subprocess.run([tool("mcopy"), "-i", path, tmp_path / "hello", "::"], check=True)
    assert run("file", "read", path, "hello").stdout == "hello"


@pytest.mark.parametrize(
    ("name", "system"),
    [
        ("linux-centos6", "CentOS release 6.10 (Final)"),
        ("linux-ostree", "Trial 1"),
        ("linux-bom", "Trial 1"),
    ],
)
def test_a_linux_without_a_plain_os_release_is_named(
    unpack: Unpack, name: str, system: str
) -> None:
    with open_image(unpack(f"found/{name}.raw.xz")) as image:
        guest = inspect_image(image).guest
        assert guest is not None
        assert guest.name == system


@pytest.mark.parametrize(
    ("files", "system"),
    [
        ({"etc/SuSE-release": "SUSE Linux Enterprise Server 11 (x86_64)\nVERSION = 11\n"},
         "SUSE Linux Enterprise Server 11 (x86_64)"),
        ({"etc/debian_version": "7.11\n"}, "Debian GNU/Linux 7.11"),
        ({"etc/passwd": "root:x:0:0::/root:/bin/sh\n", "sbin/init": ""},
         "Linux without an os-release"),
        ({"ostree/deploy/a/deploy/1.0/usr/lib/os-release": "PRETTY_NAME=One\n"}, "One"),
        ({"home/passwd": "no root"}, None),
    ],
)  # fmt: skip
def test_other_ways_to_name_a_linux(
    tmp_path: Path, files: dict[str, str], system: str | None
) -> None:
    tool("mkfs.ext4")
    for name, text in files.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    make_ext(tmp_path / "v", tmp_path / "tree", "ext4", size=16 * MIB)
    with open_image(tmp_path / "v") as image:
        guest = inspect_image(image).guest
        assert (None if guest is None else guest.name) == system


def test_volumes_of_a_pool_are_named_where_they_are_not_read(unpack: Unpack) -> None:
    said = run("disk", "map", unpack("found/lvm-thin.raw.xz")).stdout
    assert "vgthin/root: logical volumes of the type thin are not read" in said


@pytest.mark.parametrize("sector", range(4))
def test_a_physical_volume_has_its_label_in_one_of_four_sectors(
    unpack: Unpack, sector: int
) -> None:
    with FileSource(unpack("found/lvm-thin.raw.xz")) as file:
        head = file.read_at(0, 2048)
        found = head.index(b"LABELONE")
        label = head[found : found + 512]
    data = bytes(sector * 512) + label
    assert recognise(MemorySource(data.ljust(1 << 20, b"\0"))) == "LVM"


def test_a_log_with_writes_that_are_not_in_place_is_said(unpack: Unpack) -> None:
    done = run("inspect", unpack("found/xfs-dirty-log.raw.xz"))
    assert "holds writes that are not in place" in done.stdout


class Counted(FileSource):
    """A file that counts the bytes that are read of it."""

    __slots__ = ("count",)

    def read_at(self, offset: int, length: int) -> bytes:
        """As FileSource.read_at."""
        self.count += length
        return super().read_at(offset, length)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_tree_takes_no_longer_a_file_the_larger_its_directories_are(
    tmp_path: Path, kind: str
) -> None:
    tool(f"mkfs.{kind}")
    read = []
    for count in (1000, 8000):
        tree = tmp_path / f"tree-{count}"
        (tree / "flat").mkdir(parents=True)
        for number in range(count):
            (tree / "flat" / f"f{number:05}").write_bytes(b"%d" % number)
        path = tmp_path / f"volume-{count}"
        if kind == "ext4":
            make_ext(path, tree, kind, "-N", "20000")
        else:
            make_xfs(path, tree)
        with Counted(path) as file:
            file.count = 0
            volume = open_volume(file)
            target = tmp_path / f"out-{count}"
            Extraction(1 << 30, lambda done, total: None).extract_tree(
                volume, volume.lookup("flat"), target
            )
            read.append(file.count)
        assert (target / f"f{count - 1:05}").read_bytes() == b"%d" % (count - 1)
    assert read[1] <= 10 * read[0]
