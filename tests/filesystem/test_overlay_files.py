"""Files that CompactOS compressed: made by wimlib, read as libfsntfs reads them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures import overlay_files
from fixtures.cache import cached_folder
from imagetool.disk import FileSource, Memory
from imagetool.errors import Corrupt, ImagetoolError, Unsupported
from imagetool.filesystem import open_volume
from imagetool.filesystem.ntfs.overlay import open_overlay


@pytest.fixture(scope="session")
def compact(oracle: Callable[[str], str]) -> Path:
    for name in ("wimlib-imagex", "ntfscp", "mkntfs"):
        oracle(name)
    return cached_folder("compact", overlay_files.build) / "volume"


@pytest.mark.parametrize("algorithm", [0, 1, 2, 3])
def test_every_file_is_what_was_compressed(compact: Path, algorithm: int) -> None:
    with FileSource(compact) as source:
        volume = open_volume(source)
        for name, data in overlay_files.contents().items():
            node = volume.lookup(f"{name}.{algorithm}")
            assert node.size == len(data)
            assert node.streams() == (overlay_files.STREAM,)
            found = node.open()
            assert found.size == len(data)
            assert found.read_at(0, len(data) + 5) == data, name


def test_libfsntfs_reads_the_same(compact: Path) -> None:
    """XPRESS only: libfsntfs refuses the LZX that wimlib writes."""
    pyfsntfs = pytest.importorskip("pyfsntfs")
    other = pyfsntfs.volume()
    other.open(str(compact))
    with FileSource(compact) as source:
        volume = open_volume(source)
        for algorithm in (0, 2, 3):
            for name in ("text", "program", "mixed"):
                path = f"{name}.{algorithm}"
                entry = other.get_file_entry_by_path(f"\\{path}")
                found = volume.lookup(path).open()
                assert entry.read_buffer(found.size) == found.read_at(0, found.size), path
    other.close()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    algorithm=st.sampled_from([0, 1, 2, 3]),
    ranges=st.lists(st.tuples(st.integers(-5, 300000), st.integers(-5, 90000)), max_size=5),
)
def test_any_reads_equal_those_of_the_whole(
    compact: Path, algorithm: int, ranges: list[tuple[int, int]]
) -> None:
    data = overlay_files.contents()["mixed"]
    with FileSource(compact) as source:
        found = open_volume(source).lookup(f"mixed.{algorithm}").open()
        whole = Memory(data)
        expected = [b"" if start < 0 else whole.read_at(start, size) for start, size in ranges]
        assert found.read_many(ranges) == expected


@settings(max_examples=60, deadline=None, derandomize=True)
@given(algorithm=st.sampled_from([0, 1, 2, 3]), seed=st.integers(0, 1 << 32))
def test_a_damaged_stream_ends_in_our_errors_only(compact: Path, algorithm: int, seed: int) -> None:
    noise = random.Random(seed)
    size = len(overlay_files.contents()["mixed"])
    with FileSource(compact) as source:
        stream = open_volume(source).lookup(f"mixed.{algorithm}").open(overlay_files.STREAM)
        packed = bytearray(stream.read_at(0, stream.size))
    for _ in range(noise.randrange(1, 20)):
        packed[noise.randrange(len(packed))] = noise.randrange(256)
    if noise.random() < 0.3:
        del packed[noise.randrange(len(packed)) :]
    begun = time.monotonic()
    point = overlay_files.reparse_point(algorithm)
    try:
        found = open_overlay(point, Memory(bytes(packed)), size, "file")
        assert len(found.read_at(0, size)) == size
    except ImagetoolError as error:
        assert isinstance(error, Corrupt)
    assert time.monotonic() - begun < 2


def test_a_file_in_a_wim_or_of_an_unknown_algorithm_is_refused_by_name() -> None:
    with pytest.raises(Unsupported, match="WIM"):
        open_overlay(overlay_files.reparse_point(0, provider=1), Memory(b""), 5, "file")
    with pytest.raises(Unsupported, match="algorithm"):
        open_overlay(overlay_files.reparse_point(9), Memory(b""), 5, "file")
    with pytest.raises(Corrupt):
        open_overlay(overlay_files.reparse_point(0)[:12], Memory(b""), 5, "file")
    with pytest.raises(Corrupt, match="does not fit"):
        open_overlay(overlay_files.reparse_point(0), Memory(b"1234"), 1 << 40, "file")
