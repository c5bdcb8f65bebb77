"""NTFS volumes that were answered wrongly, and large ones compared whole with ntfs-3g."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fixtures.cache import build_once
from fixtures.large_volumes import can_mount, make_ntfs
from imagetool.disk import FileSource, MemorySource
from imagetool.errors import Unsupported
from imagetool.filesystem import Volume, open_volume
from imagetool.filesystem.extract import Extraction
from imagetool.filesystem.ntfs.node import NtfsNode
from tests.conftest import tool

Unpack = Callable[[str], Path]


@pytest.fixture
def names(unpack: Unpack) -> Iterator[Volume]:
    """A volume whose names differ by the case of letters alone, with reparse points."""
    with FileSource(unpack("found/ntfs-names.raw.xz")) as file:
        yield open_volume(file)


def content(volume: Volume, path: str) -> bytes:
    source = volume.lookup(path).open()
    return source.read_at(0, source.size)


def test_units_are_compressed_or_not_by_their_runs_alone(unpack: Unpack, testdata: Path) -> None:
    listed = (testdata / "found/lznt1-tail.sha256").read_text(encoding="utf-8").splitlines()
    with FileSource(unpack("found/lznt1-tail.raw.xz")) as file:
        volume = open_volume(file)
        for line in listed:
            digest, path = line.split()
            assert hashlib.sha256(content(volume, path)).hexdigest() == digest, path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("cs/README", b"UPPER"),
        ("cs/readme", b"lower"),
        ("cs/ReadMe", b"Mixed"),
        ("Straße/f.txt", b"eszett"),
        ("STRASSE/f.txt", b"double"),
        ("strasse/f.txt", b"double"),
        ("µTorrent.txt", b"micro"),
        ("ı.txt", b"dotless"),
        ("Ÿ.TXT", b"yd"),
    ],
)
def test_names_are_exact_first_and_then_of_any_case(
    names: Volume, path: str, expected: bytes
) -> None:
    for other in ("Straße/f.txt", "STRASSE/f.txt", "cs/README", path):
        content(names, other)  # what was found before is no answer to another name
    assert content(names, path) == expected


@pytest.mark.parametrize("path", ["ΜTORRENT.txt", "I.txt", "straSSe2/f.txt", "STRAẞE/f.txt"])
def test_other_upper_cases_than_the_volumes_own_are_other_names(names: Volume, path: str) -> None:
    assert names.find(path) is None


@pytest.mark.parametrize(
    ("path", "word"), [("dedup.txt", "deduplicated"), ("cloud.txt", "cloud storage")]
)
def test_data_that_lies_elsewhere_is_refused_by_name(
    names: Volume, path: str, word: str, tmp_path: Path
) -> None:
    with pytest.raises(Unsupported, match=word):
        names.lookup(path).open()
    extraction = Extraction(1 << 30, lambda done, total: None)
    extraction.extract_tree(names, names.lookup(""), tmp_path / "all")
    assert not (tmp_path / "all" / path).exists()
    assert any(path in sentence and word in sentence for sentence in extraction.skipped)


def _walk(volume: Volume, path: str = "") -> Iterator[str]:
    for entry in volume.lookup(path).entries():
        here = f"{path}/{entry.name}" if path else entry.name
        yield here
        if entry.is_directory:
            yield from _walk(volume, here)


@pytest.mark.parametrize("cluster", [512, 4096])
def test_a_large_volume_is_read_as_ntfs_3g_reads_it(cluster: int, shared_folder: Path) -> None:
    for name in ("mkntfs", "ntfs-3g"):
        tool(name)
    if not can_mount():
        pytest.skip("only root may mount")

    def build(folder: Path) -> None:
        folder.mkdir()
        make_ntfs(folder / "volume.raw", cluster)

    folder = build_once(shared_folder / f"large-ntfs-{cluster}", build)
    truth: dict[str, str] = json.loads((folder / "volume.json").read_text(encoding="ascii"))
    assert len(truth) > 5000
    with FileSource(folder / "volume.raw") as file:
        volume = open_volume(file)
        found = set(_walk(volume))
        other_cases = {"second": "SECOND", "Zone.Identifier": "zone.identifier", "größe": "GRÖßE"}
        for path, digest in truth.items():
            base, colon, stream = path.rpartition(":")
            node = volume.lookup(base if colon else path)
            for name in {stream, other_cases[stream]} if colon else {""}:
                source = node.open(name)
                if digest.startswith("-> "):  # a file to all but Interix
                    assert source.read_at(0, 7) == b"IntxLNK"
                    continue
                data = source.read_at(0, source.size)
                assert hashlib.sha256(data).hexdigest() == digest, path
        files = {path.rpartition(":")[0] or path for path in truth}
        assert {path for path in found if not volume.lookup(path).is_directory} == files


def test_a_reparse_point_that_is_not_known_hides_no_data() -> None:
    NtfsNode._check_data_is_here(0x12345678, MemorySource(b"data"))
    with pytest.raises(Unsupported, match="0xA000000C"):
        NtfsNode._check_data_is_here(0xA000000C, MemorySource(b""))
    with pytest.raises(Unsupported, match="0x9000F01A"):
        NtfsNode._check_data_is_here(0x9000F01A, MemorySource(b""))
