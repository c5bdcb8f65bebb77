"""Large volumes of ext, XFS and FAT, compared whole with what the kernel and mtools wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.cache import cached_folder
from fixtures.large_linux_volumes import KINDS, make_fat, make_linux
from fixtures.large_volumes import can_mount
from imagetool.disk import FileSource
from imagetool.filesystem import open_volume
from imagetool.filesystem.inode_volume import FileType, InodeVolume
from tests.conftest import tool
from tests.filesystem.test_ext_journal import contents


def compare(name: str, build: Callable[[Path], None]) -> None:
    """Every name, link and byte of a volume is as its truth has it."""
    folder = cached_folder(f"large-{name}", lambda path: build(path / "volume.raw"))
    truth = json.loads((folder / "volume.json").read_text(encoding="ascii"))
    assert len(truth) > 5000
    with FileSource(folder / "volume.raw") as file:
        volume = open_volume(file)
        assert isinstance(volume, InodeVolume)
        assert volume.warnings == ()
        found = contents(volume)
        assert {path: found.get(path) for path in truth} == truth
        assert found.keys() == truth.keys()
        for path in list(truth)[::50]:  # by its path as by its directory
            inode = volume.root()
            for part in path.split("/"):
                child = volume.child(inode, part)
                assert child is not None, path
                inode = child
            assert (inode.file_type is FileType.LINK) == truth[path].startswith("-> ")


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_volume_is_read_as_the_kernel_reads_it(kind: str) -> None:
    tool(KINDS[kind][0])
    if not can_mount():
        pytest.skip("only root may mount")
    compare(kind, lambda path: make_linux(path, kind))


@pytest.mark.parametrize("bits", [16, 32])
def test_a_large_fat_volume_is_read_as_mtools_wrote_it(bits: int) -> None:
    for name in ("mkfs.fat", "mcopy"):
        tool(name)
    compare(f"fat{bits}", lambda path: make_fat(path, bits))
