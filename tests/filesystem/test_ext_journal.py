"""Journals of ext volumes, replayed in memory, against the kernel's own replay and debugfs's."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fixtures.cache import cached_folder
from fixtures.journals import KINDS, make_journal, write_truth, write_with_debugfs
from fixtures.large_volumes import can_mount
from imagetool.disk import FileSource, MemorySource
from imagetool.errors import ImagetoolError
from imagetool.filesystem.ext import Ext, jbd2
from imagetool.filesystem.ext.journal import Journal, Transactions
from imagetool.filesystem.ext.structs import NEEDS_RECOVERY
from imagetool.filesystem.inode_volume import FileType, InodeT, InodeVolume
from tests.conftest import tool
from tests.fuzz.harness import Patched
from tests.program import run

Unpack = Callable[[str], Path]


def contents(volume: InodeVolume[InodeT]) -> dict[str, str]:
    """As fixtures.large_volumes.read_truth, with our reader."""
    found: dict[str, str] = {}

    def walk(directory: InodeT, folder: str) -> None:
        assert folder.count("/") < 30, "a directory that is in itself"
        for name, inode in volume.children(directory):
            path = f"{folder}/{name}" if folder else name
            if inode.file_type is FileType.DIRECTORY:
                walk(inode, path)
            elif inode.file_type is FileType.LINK:
                found[path] = f"-> {volume.read_link(inode, path)}"
            elif inode.file_type is FileType.FILE:
                source = volume.open_data(inode, path)
                found[path] = hashlib.sha256(source.read_at(0, source.size)).hexdigest()

    walk(volume.root(), "")
    return found


@pytest.fixture(scope="session")
def dirty() -> Callable[[str], Path]:
    """The folder of a volume whose journal the kernel left dirty, by its kind."""
    tool("mkfs.ext4")
    if not can_mount():
        pytest.skip("only root may mount")
    return lambda name: cached_folder(f"journal-{name}", lambda folder: make_journal(folder, name))


def journal_of(path: Path) -> tuple[Journal, int]:
    """The journal of a volume, and the offset of its superblock."""
    with FileSource(path) as file:
        data = file.read_at(0, file.size)
    number = data.index(jbd2.MAGIC.to_bytes(4, "big") + b"\0\0\0\4")
    clean = Patched(data, [(1024 + 96, bytes([data[1024 + 96] & ~NEEDS_RECOVERY]))], len(data))
    volume = Ext(clean)
    opened = volume.open_data(volume.read_inodes([8])[0], "journal")
    return Journal(opened, volume.block_size), number  # type: ignore[arg-type]


def transactions(path: Path) -> Transactions:
    return journal_of(path)[0]._scan()


@pytest.mark.parametrize("name", [name for name in KINDS if name != "fast-commits"])
def test_a_volume_is_read_as_the_kernel_reads_it_after_its_replay(
    dirty: Callable[[str], Path], name: str
) -> None:
    folder = dirty(name)
    truth = json.loads((folder / "volume.json").read_text(encoding="ascii"))
    before = hashlib.sha256((folder / "volume.raw").read_bytes()).digest()
    with FileSource(folder / "volume.raw") as file:
        volume = Ext(file)
        assert contents(volume) == truth
        assert not volume.needs_replay
        assert "replayed in memory, up to transaction" in " ".join(volume.warnings)
    assert hashlib.sha256((folder / "volume.raw").read_bytes()).digest() == before
    assert "version" in truth  # and without a replay it would be read otherwise:
    data = bytearray((folder / "volume.raw").read_bytes())
    data[1024 + 96] &= ~NEEDS_RECOVERY
    try:
        other = contents(Ext(MemorySource(bytes(data))))
    except ImagetoolError:
        other = {}
    assert other != truth


def test_the_journals_have_the_forms_that_they_are_for(dirty: Callable[[str], Path]) -> None:
    wrapped, revoked, escaped = set(), set(), set()
    for name in KINDS:
        found = transactions(dirty(name) / "volume.raw")
        numbers = [item.log_block for item in found.blocks]
        if numbers != sorted(numbers):
            wrapped.add(name)
        if any(found.revoked.get(item.tag.block, -1) >= item.transaction for item in found.blocks):
            revoked.add(name)
        if any(item.tag.flags & jbd2.ESCAPED for item in found.blocks):
            escaped.add(name)
    assert {"checksums-3-1k", "none-1k", "ext3"} <= wrapped
    assert wrapped & {"data", "data-1k"}  # when the kernel commits is its own affair
    assert {"checksums-3", "none-64bit", "checksums-1", "checksums-1-async", "ext3"} <= revoked
    assert {"data", "data-1k", "ext3-data"} <= escaped


def test_fast_commits_are_said_and_leave_the_volume_unclean(
    dirty: Callable[[str], Path],
) -> None:
    with FileSource(dirty("fast-commits") / "volume.raw") as file:
        volume = Ext(file)
        assert volume.needs_replay
        assert "fast commits, which are not replayed" in volume.warnings[-1]
        assert contents(volume)


def test_the_kernels_refusals_are_ours(dirty: Callable[[str], Path], tmp_path: Path) -> None:
    """Journals with checksums in which a byte or some are changed: replayed as far, or refused."""
    outcomes = set()
    for name in ("checksums-3-1k", "checksums-3-async", "checksums-1", "checksums-1-async"):
        folder = dirty(name)
        found = transactions(folder / "volume.raw")
        data = (folder / "volume.raw").read_bytes()
        _, superblock = journal_of(folder / "volume.raw")
        size = 1024 << int.from_bytes(data[1024 + 24 : 1024 + 28], "little")
        start = int.from_bytes(data[superblock + 28 : superblock + 32], "big")
        noise = random.Random(name)
        for number in range(20):
            # From the last transactions on, or anywhere in the log.
            blocks = found.blocks[-40:] if number % 2 else found.blocks
            block = noise.choice(blocks).log_block + noise.choice((-1, 0, 0, 1, 2))
            offset = superblock + max(1, block if number != 3 else start) * size
            changed = bytearray(data)
            for _ in range(noise.choice((1, 3))):
                changed[offset + noise.randrange(size)] ^= 1 << noise.randrange(8)
            (tmp_path / "volume.raw").write_bytes(changed)
            try:
                write_truth(tmp_path, "ext4")
            except SystemExit:  # it cannot be mounted
                truth = None
            except OSError:  # it is mounted, and what was replayed cannot be read by the kernel
                continue
            else:
                truth = json.loads((tmp_path / "volume.json").read_text(encoding="ascii"))
            with FileSource(tmp_path / "volume.raw") as file:
                volume = Ext(file)
                assert volume.needs_replay == (truth is None), (name, number, volume.warnings)
                if truth is not None:
                    assert contents(volume) == truth, (name, number)
                else:
                    assert "is read as it lies" in volume.warnings[-1]
            outcomes.add((name, truth is None))
    assert len({refused for _, refused in outcomes}) == 2


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("block_size", [1024, 4096])
@pytest.mark.parametrize("version", [0, 2, 3])
def test_what_debugfs_logs_is_read_as_if_it_were_in_place(
    tmp_path: Path, version: int, block_size: int, bits: int
) -> None:
    tool("debugfs")
    tool("mkfs.ext4")
    write_with_debugfs(tmp_path, version, block_size, bits)
    _, start = journal_of(tmp_path / "volume")
    with FileSource(tmp_path / "volume") as file:
        volume = Ext(file)
        assert not volume.needs_replay
        assert "up to transaction 3" in volume.warnings[0]
        replayed = volume.source.read_at(0, file.size)
    truth = (tmp_path / "truth").read_bytes()
    size = len(truth) // block_size
    for number in range(size):
        first = number * block_size
        if not start <= first < start + 1024 * block_size:  # the log itself
            assert replayed[first : first + block_size] == truth[first : first + block_size]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tool("debugfs")
    tool("mkfs.ext4")
    folder = tmp_path_factory.mktemp("journal")
    write_with_debugfs(folder, 0, 1024, 64)
    return folder / "volume"


def test_a_range_of_a_replayed_volume_is_that_of_the_whole(written: Path) -> None:
    with FileSource(written) as file:
        source = Ext(file).source
        whole = source.read_at(0, file.size)
        assert whole != file.read_at(0, file.size)
        noise = random.Random(5)
        ranges = [(noise.randrange(file.size), noise.randrange(9000)) for _ in range(2000)]
        ranges += [(1024 * noise.randrange(300), noise.randrange(4)) for _ in range(1000)]
        for (start, length), data in zip(ranges, source.read_many(ranges), strict=True):
            assert data == whole[start : start + length]
        assert source.read_at(file.size - 3, 9) == whole[-3:]
        assert source.read_at(file.size + 3, 9) == source.read_at(-1, 9) == b""


def _fields(start: int) -> Iterator[tuple[int, int]]:
    """The offsets and sizes of the numbers in the first blocks of a journal."""
    for offset in range(0, 96, 4):
        yield start + offset, 4
    for block in range(1, 24):
        for offset in range(0, 64, 2):
            yield start + block * 1024 + offset, 4


def test_a_damaged_journal_is_refused_in_a_sentence(written: Path) -> None:
    data = written.read_bytes()
    _, start = journal_of(written)
    noise = random.Random(11)
    fields = list(_fields(start))
    numbers = (0, 1, 2, 5, 255, 1024, 1025, 65535, 1 << 20, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
    kept = refused = 0
    for _ in range(1500):
        patches = []
        for offset, size in noise.sample(fields, noise.choice((1, 1, 2, 5))):
            value = noise.choice((*numbers, noise.randrange(1 << 32)))
            patches.append((offset, value.to_bytes(size, "big")))
        size = len(data) if noise.random() < 0.9 else noise.randrange(2048, len(data))
        try:
            volume = Ext(Patched(data, patches, size))
            assert all(volume.warnings)
            kept += not volume.needs_replay
            refused += volume.needs_replay
            contents(volume)
        except ImagetoolError as error:
            assert error.message
        except AssertionError as error:
            assert "in itself" in str(error)
    assert kept > 100
    assert refused > 100


def test_a_journal_on_another_device_is_said(tmp_path: Path) -> None:
    tool("mkfs.ext4")
    volume, device = tmp_path / "volume", tmp_path / "device"
    (tmp_path / "tree").mkdir()
    for path in (volume, device):
        with path.open("wb") as file:
            file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "1024", volume], check=True)
    data = bytearray(volume.read_bytes())
    data[1024 + 96] |= NEEDS_RECOVERY
    data[1024 + 224 : 1024 + 232] = bytes(4) + (0x801).to_bytes(4, "little")
    found = Ext(MemorySource(bytes(data)))
    assert found.needs_replay
    assert "lies on another device" in found.warnings[-1]


def test_a_log_that_is_too_long_is_said(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagetool.filesystem.ext.journal._MAX_LOG_SIZE", 8 << 10)
    with FileSource(written) as file:
        volume = Ext(file)
        assert volume.needs_replay
        assert "its log holds more than" in volume.warnings[-1]


def test_the_foreign_journal_is_replayed(unpack: Unpack) -> None:
    image = unpack("found/ext4-dirty-journal.raw.xz")
    done = run("inspect", image)
    assert "Trial 2 (new)" in done.stdout
    assert "its journal was replayed in memory" in done.stdout
    assert "Trial 2 (new)" in run("file", "read", image, "etc/os-release").stdout


def test_checksums_are_those_of_the_kernels_tables() -> None:
    """The check values of CRC-32C and CRC-32/MPEG-2, which are the same without an inversion."""
    assert jbd2.crc32c(0xFFFFFFFF, b"123456789") ^ 0xFFFFFFFF == 0xE3069283
    assert jbd2.crc32(0xFFFFFFFF, b"123456789") == 0x0376E6E7
