"""Links of both kinds: a junction is none for os.path.islink, and leads away all the same."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from imagetool.disk import links
from imagetool.disk.links import is_link, is_link_state
from imagetool.disk.safe_names import safe_path
from imagetool.errors import CannotWrite


def test_what_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "dead").symlink_to("nothing")
    found = {entry.name: is_link(entry) for entry in os.scandir(tmp_path)}
    assert found == {"folder": False, "file": False, "link": True, "dead": True}
    assert {name: is_link(tmp_path / name) for name in found} == found
    assert not is_link(tmp_path / "nothing")
    assert not is_link(tmp_path / "no\0name")


@pytest.mark.parametrize(
    ("tag", "linked"), [(0xA0000003, True), (0xA000000C, False), (0x9000001A, False), (0, False)]
)
def test_a_junction_is_known_by_its_tag(tag: int, linked: bool) -> None:
    """As Windows shows it: a directory with a reparse tag. A file of a cloud's is no link."""
    state = SimpleNamespace(st_mode=stat.S_IFDIR | 0o777, st_reparse_tag=tag)
    assert is_link_state(state) == linked  # type: ignore[arg-type]  # a double


def test_nothing_is_written_through_a_junction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "junction").mkdir()
    lstat = os.lstat

    def as_on_windows(path: Path) -> object:
        found = lstat(path)
        if Path(path).name == "junction":
            return SimpleNamespace(st_mode=found.st_mode, st_reparse_tag=0xA0000003)
        return found

    monkeypatch.setattr(links.os, "lstat", as_on_windows)
    with pytest.raises(CannotWrite, match="in the way"):
        safe_path(tmp_path, "junction/file")
