"""Names as the Windows kernel compares them, texts that end at their NUL, big data by version."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.made_hives import MadeHive
from imagetool.disk import MemorySource
from imagetool.filesystem.ntfs import Ntfs
from imagetool.guest.image import open_image
from imagetool.registry import Hive
from imagetool.registry.listing import list_key
from imagetool.registry.upper_case import upper_units
from imagetool.report.text import safe

Unpack = Callable[[str], Path]


def test_the_table_is_that_of_a_volume_that_windows_formatted(unpack: Unpack) -> None:
    with open_image(unpack("disk/server2022-dynamic-ntfs.vhdx.zip")) as image:
        device = next(item for item in image.block_devices if item.file_system == "NTFS")
        volume = image.volume(device)
        assert isinstance(volume, Ntfs)
        table = struct.unpack("<65536H", volume.upcase())
    assert [ord(upper_units(chr(unit))) for unit in range(65536)] == list(table)


@pytest.mark.parametrize("name", ["µTorrent", "ıstanbul", "µTORRENT", "ÿES", "straße", "STRAßE"])
def test_keys_beyond_ascii_are_found(unpack: Unpack, name: str) -> None:
    hive = Hive(MemorySource(unpack("found/hive-upcase.xz").read_bytes()))
    assert hive.find(name) is not None


@pytest.mark.parametrize("name", ["\N{GREEK CAPITAL LETTER MU}TORRENT", "Istanbul", "STRASSE"])
def test_keys_of_another_upper_case_are_not(unpack: Unpack, name: str) -> None:
    hive = Hive(MemorySource(unpack("found/hive-upcase.xz").read_bytes()))
    assert hive.find(name) is None


def test_values_begin_as_they_like_before_big_data_existed(unpack: Unpack) -> None:
    hive = Hive(MemorySource(unpack("found/hive-1.3-value-begins-db.xz").read_bytes()))
    values = {value.name: value.raw for key in hive.root.subkeys() for value in key.values()}
    assert values["big"][:2] == b"db"
    assert all(len(raw) > 16344 for raw in values.values())


def made_names(names: list[str]) -> bytes:
    hive = MadeHive()
    keys = [hive.add_key(name) for name in sorted(names, key=upper_units)]
    return hive.finish(hive.add_key("root", (len(keys), hive.add_list(b"li", keys))))


ANY_NAME = st.text(
    st.characters(exclude_characters="\\\0", exclude_categories=()), min_size=1, max_size=8
)


@given(st.lists(ANY_NAME, min_size=1, max_size=20, unique_by=upper_units))
def test_every_name_is_found_also_beyond_the_bmp_and_with_lone_surrogates(names: list[str]) -> None:
    root = Hive(MemorySource(made_names(names))).root
    for name in names:
        key = root.subkey(name)
        assert key is not None
        units = name.encode("utf-16-le", "surrogatepass")
        assert key.name.encode("utf-16-le", "surrogatepass") == units
        assert [item.name for item in root.subkeys(name) if item.name == key.name]


def test_lone_surrogates_stay_apart_and_are_printed_escaped() -> None:
    root = Hive(MemorySource(made_names(["\ud800x", "\ud801x", "\U00010400"]))).root
    assert [safe(key.name) for key in root.subkeys()] == ["\\ud800x", "\\ud801x", "\U00010400"]
    assert root.find("\ud801x") is not None
    assert root.find("\ud802x") is None


def test_a_text_ends_at_its_nul_and_its_bytes_stay_available() -> None:
    hive = MadeHive()
    text = "6.3\0hidden\0".encode("utf-16-le")
    data = hive.add(text)
    offsets = [hive.add_value(f"v{kind}", kind, len(text), data) for kind in (1, 2, 6, 7)]
    listed = hive.add_offsets(b"", offsets)
    root = Hive(MemorySource(hive.finish(hive.add_key("root", (0, 0), (4, listed))))).root
    assert [value.data for value in root.values()] == ["6.3", "6.3", "6.3", ["6.3", "hidden"]]
    assert {value.raw for value in root.values()} == {text}
    assert list_key(root, "").values[0].data == "6.3"
