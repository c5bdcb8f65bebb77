"""NTFS volumes against ntfs-3g, The Sleuth Kit and libfsntfs, and against damage."""

from __future__ import annotations

import hashlib
import io
import lzma
import random
import re
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetool.disk import FileSource, MemorySource, Source, open_disk, read_partitions
from imagetool.errors import Corrupt, Encrypted, ImagetoolError, NotFound, Unsupported
from imagetool.filesystem import open_volume, recognise
from imagetool.filesystem.ntfs import Ntfs
from imagetool.filesystem.ntfs.index import IndexEntry
from imagetool.guest.image import open_image

Oracle = Callable[[str], str]


class Counted:
    """A source that counts batches and bytes."""

    def __init__(self, below: Source) -> None:
        self.below, self.name, self.size = below, below.name, below.size
        self.budget = below.budget
        self.batches = self.bytes = 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.batches += 1
        self.bytes += length
        return self.below.read_at(offset, length)

    def read_many(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        self.batches += 1
        self.bytes += sum(length for _, length in ranges)
        return self.below.read_many(ranges)


def walk(volume: Ntfs, path: str = "") -> Iterator[tuple[str, IndexEntry]]:
    for entry in volume.lookup(path).entries():
        here = f"{path}/{entry.name}" if path else entry.name
        yield here, entry
        if entry.is_directory:
            yield from walk(volume, here)


def digests(volume: Ntfs) -> dict[str, str]:
    found = {}
    for path, entry in walk(volume):
        if not entry.is_directory:
            data = volume.lookup(path).open()
            found[path] = hashlib.sha256(data.read_at(0, data.size)).hexdigest()
    return found


@pytest.fixture(scope="session")
def foreign(testdata: Path) -> Callable[[str], Source]:
    @cache
    def load(name: str) -> Source:
        if name == "velo_vhdx_p1":
            with zipfile.ZipFile(testdata / "disk/server2022-dynamic-ntfs.vhdx.zip") as archive:
                disk = open_disk(MemorySource(archive.read(archive.namelist()[0])))
            return read_partitions(disk).partitions[0].slice(disk)
        file = {
            "testfs1": "ntfs-512-clusters",
            "velo_test_ntfs_dd": "ntfs-compressed-1k-clusters",
            "velo_partition_image": "ntfs-fake-hives",
        }[name]
        return MemorySource(lzma.decompress((testdata / f"fs/{file}.raw.xz").read_bytes()), file)

    return load


@pytest.mark.parametrize(
    "name", ["testfs1", "velo_test_ntfs_dd", "velo_partition_image", "velo_vhdx_p1"]
)
def test_every_file_of_a_foreign_volume_reads_as_ntfs_3g_reads_it(
    foreign: Callable[[str], Source], testdata: Path, name: str
) -> None:
    lines = (testdata / f"truth/fs/{name}.ntfs3g.sha256").read_text("utf-8").splitlines()
    truth = {line[66:].removeprefix("./"): line[:64] for line in lines}
    assert digests(Ntfs(foreign(name))) == truth


def test_512_directories_are_all_listed(foreign: Callable[[str], Source], testdata: Path) -> None:
    text = (testdata / "truth/fs/testfs1.fls.txt").read_text("utf-8")
    truth = {
        match[1].strip()
        for match in re.finditer(r"^[dr]/[dr] [\d-]+:\t(.+)$", text, re.MULTILINE)
        if not match[1].startswith("$") and ":" not in match[1]
    }
    ours = {path for path, _ in walk(Ntfs(foreign("testfs1")))}
    assert len(ours) > 500
    assert ours <= truth


def test_an_alternate_stream_is_read_by_its_name(foreign: Callable[[str], Source]) -> None:
    volume = Ntfs(foreign("velo_test_ntfs_dd"))
    node = volume.lookup("Folder A/Folder B/Hello world text document.txt")
    stream = node.open("goodbye.txt")
    assert stream.read_at(0, stream.size) == bytes.fromhex(
        "476f6f6462796520637275656c20776f726c642e"
    )
    with pytest.raises(NotFound, match="no such data"):
        node.open("none")


@pytest.fixture(scope="session")
def made(oracle: Oracle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tree with 4,000 files in one directory, odd names, and the volume made of it."""
    folder = tmp_path_factory.mktemp("ntfs")
    tree, volume = folder / "tree", folder / "volume"
    many = tree / "Windows/System32"
    many.mkdir(parents=True)
    noise = random.Random(4)
    for number in range(4000):
        name = f"{hashlib.md5(str(number).encode()).hexdigest()[:8]}.dll"
        (many / name).write_bytes(noise.randbytes(noise.choice((0, 5, 700, 5000))))
    for name in ("ÄÖÜ.txt", "straße.txt", "日本語.txt", "ﬁ.txt", "MiXeD.TxT", "a b c", "İı.txt"):
        (tree / name).write_bytes(name.encode())
    (tree / "large").write_bytes(noise.randbytes(3_000_001))
    with volume.open("wb") as file:
        file.truncate(96 << 20)
    archive = folder / "tree.wim"
    for command in (
        [oracle("mkntfs"), "-qq", "-Q", "-F", "-L", "made", volume],
        [oracle("wimlib-imagex"), "capture", tree, archive, "--compress=none"],
        [oracle("wimlib-imagex"), "apply", archive, "1", volume],
    ):
        subprocess.run(command, check=True, capture_output=True)
    return tree, volume


def test_a_tree_reads_back_as_it_was(made: tuple[Path, Path]) -> None:
    tree, path = made
    truth = {
        file.relative_to(tree).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in tree.rglob("*")
        if file.is_file()
    }
    with FileSource(path) as source:
        volume = Ntfs(source)
        assert volume.warnings == ()
        assert digests(volume) == truth
        for name in truth:
            assert volume.find(name.swapcase() if name.isascii() else name) is not None
        assert volume.find("ÄÖÜ.TXT".lower()) is not None
        assert volume.find("Windows/System32/none.dll") is None
        assert volume.find("large/below a file") is None


def test_one_of_4000_files_is_found_with_few_reads(made: tuple[Path, Path]) -> None:
    with FileSource(made[1]) as source:
        counted = Counted(source)
        volume = Ntfs(counted)
        names = [entry.name for entry in volume.lookup("Windows\\System32").entries()]
        assert len(names) == 4000
        for name in (names[0], names[1999], names[-1]):
            counted.batches = counted.bytes = 0
            assert Ntfs(counted).find(f"windows/system32/{name}") is not None
            assert counted.batches <= 12
            assert counted.bytes <= 40_000


def test_several_paths_are_found_in_step(made: tuple[Path, Path]) -> None:
    with FileSource(made[1]) as source:
        names = [e.name for e in Ntfs(source).lookup("Windows/System32").entries()][::80]
        paths = [f"Windows/System32/{name}" for name in names]
        counted = Counted(source)
        found = Ntfs(counted).find_many([*paths, "none", "large"])
        assert [node is not None for node in found] == [True] * len(paths) + [False, True]
        assert counted.batches <= 12


def test_a_prefix_lists_only_names_that_begin_with_it(made: tuple[Path, Path]) -> None:
    with FileSource(made[1]) as source:
        node = Ntfs(source).lookup("Windows/System32")
        for prefix in ("A", "ab", "f0f", "zz", "0", ""):
            expected = [e.name for e in node.entries() if e.name.startswith(prefix.lower())]
            assert [entry.name for entry in node.entries(prefix)] == expected


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 3_000_100), st.integers(0, 90_000)), max_size=5))
def test_any_reads_of_a_file_equal_slices_of_it(
    made: tuple[Path, Path], ranges: list[tuple[int, int]]
) -> None:
    whole = (made[0] / "large").read_bytes()
    with FileSource(made[1]) as source:
        data = Ntfs(source).lookup("large").open()
        expected = [whole[offset : offset + length] for offset, length in ranges]
        assert data.read_many(ranges) == expected
        assert [data.read_at(*item) for item in ranges] == expected


@pytest.mark.parametrize(
    ("cluster", "sector"), [(512, 512), (2048, 512), (65536, 512), (4096, 4096)]
)
def test_clusters_and_sectors_of_any_size(
    oracle: Oracle, tmp_path: Path, cluster: int, sector: int
) -> None:
    volume, source_file = tmp_path / "volume", tmp_path / "data"
    source_file.write_bytes(random.Random(cluster).randbytes(200_000))
    with volume.open("wb") as file:
        file.truncate(16 << 20)
    sizes = ["-c", str(cluster), "-s", str(sector)]
    subprocess.run(
        [oracle("mkntfs"), "-qq", "-Q", "-F", *sizes, volume], check=True, capture_output=True
    )
    subprocess.run(
        [oracle("ntfscp"), "-f", volume, source_file, "copy.bin"], check=True, capture_output=True
    )
    with FileSource(volume) as source:
        ntfs = Ntfs(source)
        assert ntfs.cluster_size == cluster
        data = ntfs.lookup("COPY.BIN").open()
        assert data.read_at(0, data.size) == source_file.read_bytes()


def test_a_file_with_forty_streams_needs_its_attribute_list(oracle: Oracle, tmp_path: Path) -> None:
    volume, data = tmp_path / "volume", tmp_path / "data"
    with volume.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run([oracle("mkntfs"), "-qq", "-Q", "-F", volume], check=True, capture_output=True)
    noise = random.Random(5)
    content = {f"stream {n:02}": noise.randbytes(noise.choice((40, 9000))) for n in range(40)}
    content[""] = noise.randbytes(123_456)
    for name, raw in content.items():
        data.write_bytes(raw)
        stream = ["-N", name] if name else []
        subprocess.run(
            [oracle("ntfscp"), "-f", *stream, volume, data, "many"], check=True, capture_output=True
        )
    shown = subprocess.run(
        [oracle("ntfsinfo"), "-F", "many", volume], check=True, capture_output=True, text=True
    )
    assert "$ATTRIBUTE_LIST" in shown.stdout
    with FileSource(volume) as source:
        node = Ntfs(source).lookup("many")
        for name, raw in content.items():
            stream_data = node.open(name)
            assert stream_data.read_at(0, stream_data.size) == raw


def test_what_is_not_read_is_refused_by_name(foreign: Callable[[str], Source]) -> None:
    boot = bytearray(4096)
    for signature, error, words in (
        (b"-FVE-FS-", Encrypted, "BitLocker"),
        (b"ReFS\0\0\0\0", Unsupported, "ReFS"),
        (b"EXFAT   ", Unsupported, "exFAT"),
    ):
        boot[3:11] = signature
        with pytest.raises(error, match=words):
            open_volume(MemorySource(bytes(boot)))
    assert recognise(MemorySource(b"LUKS\xba\xbe" + bytes(4096))) == "LUKS"
    with pytest.raises(ImagetoolError, match="no file system"):
        open_volume(MemorySource(bytes(4096)))


def test_a_wrong_update_sequence_is_damage(foreign: Callable[[str], Source]) -> None:
    source = foreign("velo_partition_image")
    data = bytearray(source.read_at(0, source.size))
    for match in re.finditer(b"FILE0", bytes(data)):
        data[match.start() + 510] ^= 0xFF
    with pytest.raises(Corrupt, match="was not written whole"):
        Ntfs(MemorySource(bytes(data))).lookup("")


@pytest.fixture(scope="module")
def victims(foreign: Callable[[str], Source]) -> dict[str, tuple[bytes, list[int]]]:
    """Volumes and where their records begin."""
    found = {}
    for name in ("velo_test_ntfs_dd", "velo_partition_image"):
        image = foreign(name).read_at(0, foreign(name).size)
        found[name] = image, [match.start() for match in re.finditer(b"FILE0|INDX", image)]
    return found


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_damage_ends_in_our_errors_only(
    victims: dict[str, tuple[bytes, list[int]]], data: st.DataObject
) -> None:
    whole, records = victims[data.draw(st.sampled_from(sorted(victims, reverse=True)))]
    image = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.sampled_from([0, *records])) + data.draw(st.integers(0, 500))
        image[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0xFF]))
    cut = data.draw(st.sampled_from([len(image), len(image) // 3]))
    try:
        volume = Ntfs(MemorySource(bytes(image[:cut]), "damaged"))
        volume.find_many(["Windows/System32/Config/SYSTEM", "Folder A/Folder B"])
        for path, entry in walk(volume):
            if not entry.is_directory:
                node = volume.find(path)
                if node is not None:
                    node.open().read_at(0, 100_000)
    except (ImagetoolError, RecursionError) as error:
        assert isinstance(error, ImagetoolError)
        assert "damaged" in str(error)


def test_a_volume_reads_through_a_partition_of_a_disk(template: Path) -> None:
    import pyvhdi

    foreign = pyvhdi.file()
    foreign.open(str(template))
    with FileSource(template) as source:
        disk = open_disk(source)
        partition = read_partitions(disk).partitions[3]
        volume = open_volume(partition.slice(disk))
        node = volume.lookup("Windows/System32/ntdll.dll")
        raw = foreign.read_buffer_at_offset(512, partition.offset)
        assert raw == partition.slice(disk).read_at(0, 512)
        assert io.BytesIO(node.open().read_at(0, 2)).read() == b"MZ"


def test_what_is_kept_of_a_volume_is_bounded(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed() -> tuple[list[str], int, int]:
        with open_image(template) as image:
            volume = image.windows().volume
            names: list[str] = []
            folders = [""]
            while folders:
                folder = folders.pop()
                for entry in volume.lookup(folder).entries():
                    names.append(f"{folder}\\{entry.name}".lstrip("\\"))
                    if entry.is_directory and entry.name not in (".", "$Extend"):
                        folders.append(names[-1])
            found = volume.find_many(names)
            assert all(node is not None for node in found)
            assert isinstance(volume, Ntfs)
            indexes = max(len(volume._roots), len(volume._allocations))
            return sorted(names), len(volume._blocks), indexes

    everything, kept, indexes = listed()
    assert kept > 60
    assert indexes > 10
    monkeypatch.setattr("imagetool.filesystem.ntfs.mft.MAX_CACHED_BLOCKS", 10)
    monkeypatch.setattr("imagetool.filesystem.ntfs.volume._MAX_CACHED_INDEXES", 2)
    again, kept, indexes = listed()
    assert again == everything
    assert kept < 60
    assert indexes <= 2
