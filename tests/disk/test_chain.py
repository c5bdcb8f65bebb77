"""Differencing VHDX chains against the hashes that a foreign library and libvhdi agree on."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetool.disk import FileSource, open_disk
from imagetool.disk.export import export
from imagetool.errors import CannotOpen, Corrupt, ImagetoolError, NotRecognised, Unsupported
from imagetool.guest.image import open_image
from tests.servicing.injecting import prepare

Unpack = Callable[[str], Path]
HASHES = {
    "disk.vhdx": "5d03c6887cfe9f77f6a215b4e2be8994bd4e7f8529d38b1688abd4e898f9fc82",
    "disk-child1.avhdx": "39f8da92e389feb35233daad2a6b08d6988e64032d341dfe1c7614a1ef49b42b",
    "disk-child2.avhdx": "4bcf6d4d25847de1d9d7341ba56f0f8b87e3dca2f8ab0b5fa15dc25443281668",
}


@pytest.fixture
def chain(unpack: Unpack, tmp_path: Path) -> Path:
    for name in HASHES:
        shutil.copyfile(unpack(f"disk/discutils-{name}.xz"), tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", HASHES)
def test_a_chain_reads_as_it_was_written(chain: Path, tmp_path: Path, name: str) -> None:
    with FileSource(chain / name) as source:
        disk = open_disk(source)
        assert hashlib.sha256(disk.read_at(0, disk.size)).hexdigest() == HASHES[name]
        assert len(disk.chain) == list(HASHES).index(name)
        target = tmp_path / "raw"
        export(disk, target)  # which reads only what is allocated
        assert hashlib.sha256(target.read_bytes()).hexdigest() == HASHES[name]
        disk.close()


@pytest.fixture(scope="module")
def youngest(unpack: Unpack, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """The last child of a chain, and everything that it reads as."""
    folder = tmp_path_factory.mktemp("chain")
    for name in HASHES:
        shutil.copyfile(unpack(f"disk/discutils-{name}.xz"), folder / name)
    with FileSource(folder / name) as source:
        disk = open_disk(source)
        whole = disk.read_at(0, disk.size)
        disk.close()
    assert hashlib.sha256(whole).hexdigest() == HASHES[name]
    return folder / name, whole


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, 100663296), st.sampled_from([1, 511, 512, 4097, 70_000, 5 << 20])),
        min_size=1,
        max_size=5,
    )
)
def test_any_reads_of_a_child_equal_slices_of_the_whole(
    youngest: tuple[Path, bytes], ranges: list[tuple[int, int]]
) -> None:
    path, whole = youngest
    with FileSource(path) as source:
        disk = open_disk(source)
        expected = [whole[offset : offset + length] for offset, length in ranges]
        assert disk.read_many(ranges) == expected
        assert [disk.read_at(*item) for item in ranges] == expected
        disk.close()


def test_each_disk_of_the_chain_holds_its_own_version(chain: Path) -> None:
    versions = ("6.3.9600.16384", "6.3.9600.18692", "6.3.9600.19456")
    for name, version in zip(HASHES, versions, strict=True):
        with open_image(chain / name) as image:
            volume = image.volume(image.block_devices[0])
            data = volume.lookup("version.txt").open()
            assert data.read_at(0, 100).decode().strip() == version
            added = volume.find("added-one.bin")
            assert (added is not None) == (name != "disk.vhdx")
            if added is not None:
                source = added.open()
                digest = hashlib.sha256(source.read_at(0, source.size)).hexdigest()
                assert digest.startswith("10169e75")


def test_a_missing_parent_is_named_with_where_it_was_looked_for(chain: Path) -> None:
    other = chain / "elsewhere"
    other.mkdir()
    (chain / "disk.vhdx").rename(other / "disk.vhdx")
    child = chain / "disk-child1.avhdx"
    with pytest.raises(CannotOpen, match=r"parent .*disk\.vhdx is missing \(looked for") as caught:
        open_image(child)
    assert str(chain) in str(caught.value)
    assert caught.value.exit_code == 3
    with open_image(child, [other]) as image:
        assert image.disk.chain == (str(other / "disk.vhdx"),)


def test_a_parent_that_was_written_to_since_is_refused(chain: Path) -> None:
    shutil.copyfile(chain / "disk-child1.avhdx", chain / "disk.vhdx")
    with pytest.raises(Corrupt, match=r"leads back to|is not its parent"):
        open_image(chain / "disk-child1.avhdx")


def test_a_parent_of_another_kind_is_refused(chain: Path) -> None:
    (chain / "disk.vhdx").write_bytes(b"text" * 1000)
    with pytest.raises(NotRecognised, match="this parent is a text file, not a disk"):
        open_image(chain / "disk-child1.avhdx")


def test_a_chain_that_leads_back_ends_in_a_sentence(chain: Path) -> None:
    (chain / "disk.vhdx").unlink()
    (chain / "disk.vhdx").symlink_to(chain / "disk-child1.avhdx")
    with pytest.raises(Corrupt, match="leads back"):
        open_image(chain / "disk-child1.avhdx")


def test_a_differencing_disk_is_not_serviced_yet(chain: Path, disc: Path) -> None:
    with pytest.raises(Unsupported, match="not serviced yet"):
        prepare(chain / "disk-child2.avhdx", disc, chain / "serviced.vhdx")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_a_damaged_child_ends_in_our_errors_only(
    unpack: Unpack, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged-chain"
    folder.mkdir(exist_ok=True)
    if not (folder / "disk.vhdx").exists():
        shutil.copyfile(unpack("disk/discutils-disk.vhdx.xz"), folder / "disk.vhdx")
    image = bytearray(unpack("disk/discutils-disk-child1.avhdx.xz").read_bytes())
    places = [match << 20 for match in range(1, min(8, len(image) >> 20))]
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.sampled_from(places)) + data.draw(st.integers(0, 70_000))
        if place < len(image):
            image[place] = data.draw(st.integers(0, 255))
    path = folder / "child.avhdx"
    path.write_bytes(image)
    try:
        with open_image(path) as opened:
            opened.disk.read_many([(0, 70_000), (opened.disk.size // 2, 3 << 20)])
    except ImagetoolError as error:
        assert error.exit_code == 3
