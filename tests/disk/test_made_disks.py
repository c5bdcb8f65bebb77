"""Disks that foreign programs made here: a chain of several chunks, 4Kn, logs, shuffled blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures import chains
from fixtures.cache import cached_folder
from imagetool.disk import FileSource, open_disk, read_partitions
from imagetool.filesystem import open_volume

MIB = 1 << 20
Library = Callable[[str], Any]


@pytest.fixture(scope="session")
def chain(oracle: Callable[[str], str], library: Library) -> Path:
    library("FATtools")
    for name in ("qemu-img", "qemu-io"):
        oracle(name)
    return cached_folder("chain", chains.build_chain)


def interesting() -> list[tuple[int, int]]:
    """Ranges around everything that was written, across blocks and chunks."""
    found = []
    for start, size, *_ in (*chains.BASE_WRITES, *chains.CHILD_WRITES):
        first = max(0, start - 3 * MIB)
        found.append((first, min(size + 6 * MIB, chains.DISK - first)))
    return found


def test_a_chain_with_bitmaps_of_several_chunks(chain: Path) -> None:
    with FileSource(chain / "child.avhdx") as source:
        disk = open_disk(source)
        assert (disk.kind, disk.size) == ("differencing", chains.DISK)
        for offset, length in interesting():
            assert disk.read_at(offset, length) == chains.expected(offset, length), offset
        stored = list(disk.allocated_ranges())
        assert sum(length for _, length in stored) < 64 * MIB
        disk.close()


def test_libvhdi_reads_the_same_chain(chain: Path, library: Library) -> None:
    pyvhdi = library("pyvhdi")
    child, parent = pyvhdi.file(), pyvhdi.file()
    child.open(str(chain / "child.avhdx"))
    parent.open(str(chain / "base.vhdx"))
    child.set_parent(parent)
    for offset, length in interesting():
        data = child.read_buffer_at_offset(length, offset)
        assert data == chains.expected(offset, length), offset
    child.close()


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    ranges=st.lists(
        st.tuples(
            st.sampled_from([start for start, *_ in chains.CHILD_WRITES]),
            st.integers(-70000, 70000),
            st.sampled_from([1, 511, 513, 4096, 100_000, 3 * MIB]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_reads_near_what_was_written(chain: Path, ranges: list[tuple[int, int, int]]) -> None:
    with FileSource(chain / "child.avhdx") as source:
        disk = open_disk(source)
        places = [(max(0, start + shift), size) for start, shift, size in ranges]
        for (offset, size), data in zip(places, disk.read_many(places), strict=True):
            assert data == chains.expected(offset, min(size, chains.DISK - offset))
        disk.close()


def test_sectors_of_4096_bytes(oracle: Callable[[str], str], library: Library) -> None:
    pyvhdi = library("pyvhdi")
    library("FATtools")
    for name in ("mkntfs", "ntfscp"):
        oracle(name)
    folder = cached_folder("4kn", chains.build_4kn)
    other = pyvhdi.file()
    other.open(str(folder / "4kn.vhdx"))
    digest = hashlib.sha256()
    with FileSource(folder / "4kn.vhdx") as source, (folder / "disk.raw").open("rb") as raw:
        disk = open_disk(source)
        assert disk.sector_size == 4096
        for offset in range(0, disk.size, 8 * MIB):
            data = disk.read_at(offset, 8 * MIB)
            assert data == raw.read(8 * MIB) == other.read_buffer_at_offset(8 * MIB, offset)
            digest.update(data)
        table = read_partitions(disk)
        assert (table.scheme, table.sector_size, len(table.partitions)) == ("gpt", 4096, 1)
        volume = open_volume(table.partitions[0].slice(disk))
        assert volume.lookup("pattern.bin").open().read_at(0, MIB) == chains.pattern(0, MIB)
    other.close()
