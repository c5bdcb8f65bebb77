"""ext, XFS, FAT and LVM, against the trees that independent tools put into them."""

from __future__ import annotations

import hashlib
import lzma
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures import linux
from fixtures.cache import cached_folder
from imagetool.budget import Budget
from imagetool.disk import FileSource, MemorySource
from imagetool.errors import Corrupt, ImagetoolError, NotFound
from imagetool.filesystem import Volume, open_volume
from imagetool.filesystem.ext import Ext
from imagetool.filesystem.inode_volume import InodeVolume
from imagetool.filesystem.lvm import metadata, read_physical_volume
from imagetool.filesystem.xfs import Xfs
from imagetool.filesystem.xfs import structs as xfs_structs
from imagetool.guest.image import open_image
from imagetool.guest.inspection import inspect_image

LINUX = ("ext2", "ext3", "ext4", "ext4-1k", "xfs-4", "xfs-5")
TREES = {"xfs-4": "tree", "xfs-5": "tree", "fat12": "plain", "fat16": "plain", "fat32": "plain"}


@pytest.fixture(scope="session")
def volumes(oracle: Callable[[str], str]) -> Path:
    for name in ("mkfs.ext4", "mkfs.xfs", "mkfs.fat", "mcopy"):
        oracle(name)
    return cached_folder("linux-volumes", linux.build_volumes)


@pytest.fixture(scope="session")
def lvm_disk(oracle: Callable[[str], str]) -> Path:
    for name in ("mkfs.xfs", "mkfs.ext4", "qemu-img"):
        oracle(name)
    return cached_folder("linux-on-lvm", linux.build_lvm) / "linux.vhdx"


def files(volume: Volume, folder: str = "") -> Iterator[tuple[str, str]]:
    """Every regular file of a volume with its SHA-256; links are left out."""
    assert isinstance(volume, InodeVolume)
    node = volume.lookup(folder)
    children = dict(volume.children(node._inode))
    for number, entry in enumerate(node.entries()):
        path = f"{folder}/{entry.name}" if folder else entry.name
        if entry.is_directory:
            if entry.name != "lost+found":
                yield from files(volume, path)
            continue
        inode = children[entry.name]
        if inode.file_type.value != "file":
            continue
        source = volume.open_data(inode, path)
        if number < 500 or number % 50 == 0:  # a name is looked for from the beginning
            found = volume.find(path)
            assert found is not None
            assert found.size == source.size
            source = found.open()
        assert source.size == entry.size
        digest = hashlib.sha256()
        for offset in range(0, source.size, 1 << 20):
            digest.update(source.read_at(offset, 1 << 20))
        yield path, digest.hexdigest()


@pytest.mark.parametrize("name", [*LINUX, "fat12", "fat16", "fat32"])
def test_every_file_is_as_it_was_put_in(volumes: Path, name: str) -> None:
    with FileSource(volumes / name) as source:
        volume = open_volume(source)
        found = dict(files(volume))
    assert found == linux.hashes(volumes / TREES.get(name, "ext-tree"))


@pytest.mark.parametrize("name", LINUX)
def test_links_are_followed_inside_the_volume_and_never_in_circles(
    volumes: Path, name: str
) -> None:
    with FileSource(volumes / name) as source:
        volume = open_volume(source)
        for path in ("etc/os-release", "/etc/absolute", "etc/long-link", "etc/../etc/os-release"):
            node = volume.lookup(path)
            assert node.open().read_at(0, 4096).decode() == linux.OS_RELEASE
        with pytest.raises(Corrupt, match="symbolic links"):
            volume.find("etc/loop")
        assert volume.find("etc/dangling") is None
        assert volume.find("etc/OS-RELEASE") is None
        assert volume.find("usr/lib/os-release/below") is None
        assert volume.find("../../etc").is_directory
        with pytest.raises(NotFound):
            volume.lookup("etc").open()
        with pytest.raises(NotFound):
            volume.lookup("etc/os-release").open("stream")
        assert volume.warnings == ()


def test_the_fixtures_have_the_forms_that_they_are_for(volumes: Path) -> None:
    with FileSource(volumes / "xfs-4") as source:
        volume = Xfs(source)
        root = volume.root()
        forms = {name: volume.child(root, name).format for name in ("many", "empty", "etc")}
        assert forms == {
            "many": xfs_structs.BTREE,
            "empty": xfs_structs.LOCAL,
            "etc": xfs_structs.LOCAL,
        }
    with FileSource(volumes / "xfs-5") as source:
        volume = Xfs(source)
        for name in ("some", "several"):
            assert volume.child(volume.root(), name).format == xfs_structs.EXTENTS
    with FileSource(volumes / "ext4") as source:
        ext = Ext(source)
        islands = ext.child(ext.root(), "islands")
        assert islands is not None
        assert int.from_bytes(islands.i_block[6:8], "little") >= 1, (
            "a tree of extents with branches"
        )


def test_fat_names_are_found_in_any_case(volumes: Path) -> None:
    for name in ("fat12", "fat16", "fat32"):
        with FileSource(volumes / name) as source:
            volume = open_volume(source)
            assert volume.lookup("efi\\BOOT\\BootX64.EFI").size == 300_000
            assert volume.lookup("a NAME with spaces and ÜMLAUTS, rather long.text").size == 6
            assert volume.find("none") is None


def test_the_foreign_ext4_and_ext2_volumes(testdata: Path, tmp_path: Path) -> None:
    path = tmp_path / "hierarchy.ext4"
    path.write_bytes(lzma.decompress((testdata / "fs/hierarchy_64.ext4.xz").read_bytes()))
    truth = (testdata / "truth/fs/ext4_hierarchy_64.mount.txt").read_text().splitlines()
    listed = {
        line.split("  ./")[1]: line.split()[0]
        for line in truth
        if "  ./" in line and len(line) > 66
    }
    with FileSource(path) as source:
        assert dict(files(open_volume(source))) == listed
    disk = tmp_path / "ext2.vhd"
    disk.write_bytes(lzma.decompress((testdata / "disk/dfvfs-ext2.vhd.xz").read_bytes()))
    with open_image(disk) as image:
        assert [device.file_system for device in image.block_devices] == ["ext"]
        assert dict(files(image.volume(image.block_devices[0])))


@pytest.mark.parametrize("name", ["xfs-4", "xfs-5"])
def test_xfs_is_read_as_libfsxfs_reads_it(
    volumes: Path, library: Callable[[str], Any], name: str
) -> None:
    pyfsxfs = library("pyfsxfs")
    other = pyfsxfs.volume()
    other.open(str(volumes / name))
    with FileSource(volumes / name) as source:
        volume = open_volume(source)
        for path in ("boot/vmlinuz", "var/log/size-4097", "many/entry-02999", "usr/lib/os-release"):
            entry = other.get_file_entry_by_path(f"/{path}")
            node = volume.lookup(path)
            assert node.open().read_at(0, node.size) == entry.read_buffer(entry.size)
            folder, _, leaf = path.rpartition("/")
            listed = {item.name: item for item in volume.lookup(folder).entries(leaf)}[leaf]
            assert listed.modified.timestamp() == entry.get_modification_time_as_integer() // 10**9
    other.close()


def test_a_logical_volume_of_two_segments_is_put_together(lvm_disk: Path) -> None:
    """lvm2 wrote its description; libvslvm refuses two segments on one physical volume."""
    whole = (lvm_disk.parent / "root").read_bytes()
    with open_image(lvm_disk) as image:
        names = [(device.number, device.file_system, device.name) for device in image.block_devices]
        assert names == [(1, "ext", ""), (2, "LVM", ""), (3, "XFS", "vg/root")]
        source = image.block_devices[2].source
        assert source.size == len(whole)
        digest = hashlib.sha256()
        for offset in range(0, source.size, 3 << 20):
            digest.update(source.read_at(offset, 3 << 20))
    assert digest.digest() == hashlib.sha256(whole).digest()


def test_a_linux_on_lvm_says_what_it_is(lvm_disk: Path) -> None:
    with open_image(lvm_disk) as image:
        found = inspect_image(image)
        assert found.windows is None
        assert found.linux is not None
        assert found.linux.name == "Fixture GNU/Linux 12 (stand-in)"
        assert (found.linux.distribution, found.linux.version) == ("fixture", "12")
        with pytest.raises(ImagetoolError, match="not looked into yet") as caught:
            image.windows()
        assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vg {",
        "vg { seqno = }",
        "vg { seqno = [1, 2 }",
        'vg { a = "open }',
        "vg " + "{ a " * 100,
        "= 1",
        "vg { seqno = 99999999999999999999999 }",
    ],
)
def test_a_damaged_description_of_a_group_is_said(text: str) -> None:
    try:
        parsed = metadata.parse_metadata(text, "group", Budget())
    except Corrupt:
        return
    assert isinstance(parsed, dict)


def test_a_stripe_size_of_zero_or_a_missing_disk_is_said(lvm_disk: Path) -> None:
    from imagetool.filesystem.lvm import LogicalVolume

    with FileSource(lvm_disk.parent / "physical") as source:
        group = read_physical_volume(source).metadata
        segment = {"start_extent": 0, "extent_count": 4, "type": "striped", "stripes": ["pv0", 0]}
        for change, words in (
            ({"type": "mirror"}, "type mirror"),
            ({"stripes": ["pv9", 0]}, "not listed"),
            ({"stripes": ["pv0", 0, "pv0", 9]}, "stripe_size"),
            ({"stripes": ["pv0", 0, "pv0", 9], "stripe_size": 0}, "stripes of 0"),
            ({"stripes": []}, "without stripes"),
            ({"start_extent": -1}, "start_extent"),
        ):
            description = {"segment_count": 1, "segment1": {**segment, **change}}
            with pytest.raises(ImagetoolError, match=words):
                LogicalVolume("vg/x", description, group, {"pv0": source}).open()
        two = {**segment, "stripes": ["pv0", 0, "pv0", 9], "stripe_size": 128}
        striped = LogicalVolume(
            "vg/x", {"segment_count": 1, "segment1": two}, group, {"pv0": source}
        )
        data = striped.open().read_at(0, 3 * 65536)
        for index, place in enumerate((0, 9 * (1 << 20), 65536)):
            expected = source.read_at((1 << 20) + place, 65536)
            assert data[index * 65536 : (index + 1) * 65536] == expected


@settings(max_examples=60, deadline=None, derandomize=True)
@given(name=st.sampled_from([*LINUX, "fat12"]), seed=st.integers(0, 1 << 32))
def test_damaged_volumes_end_in_our_errors_only(volumes: Path, name: str, seed: int) -> None:
    """Bytes near the start are changed, where the metadata lies, and the volume is walked."""
    noise = random.Random(seed)
    with (volumes / name).open("rb") as file:
        data = bytearray(file.read(6 << 20))
    places = [place for place in range(0, len(data), 512) if any(data[place : place + 64])]
    for _ in range(30):
        data[noise.choice(places[:400]) + noise.randrange(512)] = noise.randrange(256)
    begun = time.monotonic()
    try:
        volume = open_volume(MemorySource(bytes(data), name))
        for path in ("etc/os-release", "many", "boot/vmlinuz", "islands", "dir", "EFI/Boot"):
            node = volume.find(path)
            if node is None:
                continue
            if node.is_directory:
                for _ in zip(node.entries(), range(300), strict=False):
                    pass
            else:
                node.open().read_at(0, 1 << 16)
    except ImagetoolError as error:
        assert error.message
    assert time.monotonic() - begun < 5
