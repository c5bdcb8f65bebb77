"""Hives against what other readers found in them, and against damage."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetool.contracts import Range
from imagetool.disk.source import MemorySource, SourceSlice
from imagetool.errors import Corrupt, ImagetoolError, NotFound, NotRecognised
from imagetool.registry import Hive, ValueType

Load = Callable[[str], bytes]
Dump = Callable[[bytes], list[str]]


class Counted:
    """A source that counts what is asked of it."""

    def __init__(self, data: bytes) -> None:
        self._memory = MemorySource(data, "counted")
        self.name, self.size = "counted", len(data)
        self.budget = self._memory.budget
        self.batches = self.bytes = 0

    def read_at(self, offset: int, length: int) -> bytes:
        return self.read_many([(offset, length)])[0]

    def read_many(self, ranges: list[Range]) -> list[bytes]:
        self.batches += 1
        self.bytes += sum(length for _, length in ranges)
        return self._memory.read_many(ranges)


def test_a_hive_of_version_1_3_holds_what_other_readers_found(
    load: Load, dump: Dump, truth: Callable[[str], list[str]]
) -> None:
    assert dump(load("nt4-SOFTWARE")) == sorted(truth("nt4-SOFTWARE.dump"))


def test_every_value_equals_what_libregf_reads(load: Load) -> None:
    import io

    import pyregf

    for name in (
        "nt4-SOFTWARE",
        "yarp/UnicodeHive",
        "yarp/BigDataHive",
        "yarp/NewDirtyHive1/RecoveredHive_Windows10",
        "yarp/OldDirtyHive/RecoveredHive_Windows7",
    ):
        data = load(name)
        foreign = pyregf.file()
        foreign.open_file_object(io.BytesIO(data))
        pairs = [(Hive(MemorySource(data)).root, foreign.get_root_key())]
        seen = 0
        while pairs:
            ours, theirs = pairs.pop()
            assert ours.last_written.replace(tzinfo=None) == theirs.get_last_written_time()
            values = {value.name: value.raw for value in ours.values()}
            assert values == {v.name or "": v.data or b"" for v in theirs.values}
            subkeys = list(ours.subkeys())
            assert [key.name for key in subkeys] == [key.name for key in theirs.sub_keys]
            assert ours.subkey_count == len(subkeys)
            pairs += zip(subkeys, theirs.sub_keys, strict=True)
            seen += 1
        assert seen > 1, name


def test_every_key_is_found_by_its_path_in_any_case(load: Load) -> None:
    hive = Hive(MemorySource(load("nt4-SOFTWARE")))
    keys, count = [hive.root], 0
    while keys:
        key = keys.pop()
        found = hive.find(key.path.swapcase())
        assert found is not None
        assert found.offset == key.offset
        keys += key.subkeys()
        count += 1
    assert count > 1000


@pytest.mark.parametrize("name", ["ManySubkeysHive", "OldDirtyHive/RecoveredHive_Windows7"])
def test_one_of_5000_subkeys_is_found_without_reading_the_others(load: Load, name: str) -> None:
    data = load(f"yarp/{name}")
    names = [key.name for key in Hive(MemorySource(data)).key("key_with_many_subkeys").subkeys()]
    assert len(names) > 4990
    for wanted in (names[0], names[2500], names[-1]):
        source = Counted(data)
        key = Hive(source).key(f"KEY_with_many_subkeys\\{wanted}")
        assert key.name == wanted
        assert source.bytes < 130_000
    assert Hive(MemorySource(data)).find("key_with_many_subkeys\\none such") is None


def test_a_value_in_several_segments_is_read_whole(load: Load) -> None:
    values = Hive(MemorySource(load("yarp/BigDataHive"))).key("key_with_bigdata").values()
    assert sorted(len(value.raw) for value in values) == [16345, 81725]  # libregf agrees


def test_names_beyond_latin_1_are_found_in_any_case(load: Load) -> None:
    hive = Hive(MemorySource(load("yarp/UnicodeHive")))
    assert hive.key("ПРИВЕТ").name == "Привет"


def test_a_dirty_hive_without_logs_is_read_as_it_is_and_said(
    load: Load, dump: Dump, truth: Callable[[str], list[str]]
) -> None:
    for name, foreign in (
        ("windows81-SYSTEM-dirty-nolog", "windows81-SYSTEM-dirty-nolog.dump"),
        ("windows10-SYSTEM-dirty", "windows10-SYSTEM-dirty.before"),
    ):
        data = load(name)
        assert dump(data) == sorted(truth(foreign))
        hive = Hive(MemorySource(data))
        assert hive.dirty
        assert hive.warnings == ("the hive is dirty, and not recovered: it has no usable log",)


def test_a_destroyed_base_block_without_logs_is_damage(load: Load) -> None:
    with pytest.raises(Corrupt, match="checksum") as caught:
        Hive(MemorySource(load("yarp/BadBaseBlockHive/BadBaseBlockHive"), "bad"))
    assert caught.value.exit_code == 3
    assert caught.value.hint


def test_a_truncated_hive_is_read_as_far_as_it_goes(load: Load) -> None:
    with pytest.raises(Corrupt, match=r"TruncatedHive: hive cell at offset \d+"):
        keys = [Hive(MemorySource(load("yarp/TruncatedHive"), "TruncatedHive")).root]
        while keys:
            keys += keys.pop().subkeys()


def test_what_is_no_hive_is_not_recognised() -> None:
    for data in (b"", b"reg", b"MZ" * 4096):
        with pytest.raises(NotRecognised, match="no registry hive"):
            Hive(MemorySource(data))


def test_a_key_that_is_not_there_is_named(load: Load) -> None:
    with pytest.raises(NotFound, match=r"no key Classes\\no such"):
        Hive(MemorySource(load("nt4-SOFTWARE"))).key("Classes\\no such")


def test_a_changed_base_block_is_damage(load: Load) -> None:
    data = bytearray(load("nt4-SOFTWARE"))
    data[36] ^= 8
    assert Hive(MemorySource(load("nt4-SOFTWARE"))).warnings == ()
    with pytest.raises(Corrupt, match="checksum"):
        Hive(MemorySource(bytes(data)))


def _hive(cells: list[bytes]) -> bytes:
    """A hive whose cells are laid out one behind the other from offset 32, the first its root."""
    head = bytearray(4096)
    head[:4] = b"regf"
    struct.pack_into("<IIQIIIIII", head, 4, 1, 1, 0, 1, 5, 0, 1, 32, 4096)
    checksum = 0
    for word in struct.unpack_from("<127I", head):
        checksum ^= word
    struct.pack_into("<I", head, 508, checksum)
    page, offset = bytearray(4096), 32
    for cell in cells:
        size = (4 + len(cell) + 7) // 8 * 8
        struct.pack_into("<i", page, offset, -size)
        page[offset + 4 : offset + 4 + len(cell)] = cell
        offset += size
    return bytes(head + page)


def _key(subkeys: int = 0, subkey_list: int = 0xFFFFFFFF, values: int = 0, at: int = 0) -> bytes:
    key = bytearray(80)
    key[:4] = struct.pack("<2sH", b"nk", 0x20)
    struct.pack_into("<6I", key, 20, subkeys, 0, subkey_list, 0xFFFFFFFF, values, at)
    struct.pack_into("<H", key, 72, 4)
    key[76:] = b"ROOT"
    return bytes(key)


def test_a_list_that_leads_back_to_itself_ends_in_a_sentence() -> None:
    loop = struct.pack("<2sHII", b"ri", 2, 120, 120)
    hive = Hive(MemorySource(_hive([_key(2, 120), loop])))
    with pytest.raises(Corrupt):
        list(hive.root.subkeys())
    with pytest.raises(Corrupt):
        hive.find("anything")


def test_a_count_of_values_beyond_the_list_is_damage() -> None:
    hive = Hive(MemorySource(_hive([_key(values=0x7FFFFFFF, at=120), b"\0" * 8])))
    with pytest.raises(Corrupt, match="too short"):
        hive.root.values()


@pytest.mark.parametrize(
    ("kind", "raw", "data", "text"),
    [
        (ValueType.REG_DWORD, b"\x05\0\0\0", 5, "5"),
        (ValueType.REG_DWORD, b"\x05\0", b"\x05\0", "0500"),
        (ValueType.REG_DWORD_BIG_ENDIAN, b"\0\0\0\x05", 5, "5"),
        (ValueType.REG_SZ, "ab".encode("utf-16-le"), "ab", "ab"),
        (ValueType.REG_SZ, b"a\0\0", "a", "a"),
        (ValueType.REG_MULTI_SZ, b"a\0\0\0", ["a"], "a"),
        (ValueType.REG_BINARY, b"\x01\xff", b"\x01\xff", "01ff"),
        (77, b"\x01\xff", b"\x01\xff", "01ff"),
    ],
)
def test_data_comes_out_by_its_type(kind: int, raw: bytes, data: object, text: str) -> None:
    value = struct.pack("<2sHIIIHH", b"vk", 0, len(raw) | 1 << 31, 0, kind, 1, 0)
    value = value[:8] + raw.ljust(4, b"\0") + value[12:]
    cells = [_key(values=1, at=120), struct.pack("<I", 128)]
    hive = Hive(MemorySource(_hive([*cells, value])))
    assert hive.root.get("") == data
    found = hive.root.value("")
    assert found is not None
    assert found.text() == text


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_damage_ends_in_our_errors_only(load: Load, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["UnicodeHive", "BigDataHive", "ManySubkeysHive"]))
    hive = bytearray(load(f"yarp/{name}"))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(4096, len(hive) - 4))
        hive[place : place + 4] = data.draw(
            st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\0\0\0\x80"])
        )
    cut = data.draw(st.sampled_from([len(hive), len(hive) // 2, 5000]))
    source = SourceSlice(MemorySource(bytes(hive)), 0, cut, "damaged")
    try:
        keys = [Hive(source).root]
        for _ in range(200):
            if not keys:
                break
            key = keys.pop()
            key.find("a\\b")
            for value in key.values():
                value.text()
            keys += key.subkeys()
    except ImagetoolError as error:
        assert "damaged" in str(error)


def test_what_is_prefetched_is_read_in_few_batches_and_not_again(load: Load) -> None:
    class Counted(MemorySource):
        batches = 0

        def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
            self.batches += 1
            return super().read_many(ranges)

    data = load("yarp/ManySubkeysHive")
    for parent in (Hive(MemorySource(data)).root, *Hive(MemorySource(data)).root.subkeys()):
        names = [key.name for key in parent.subkeys()]
        for prefix in (*names[:: max(1, len(names) // 7)], "", "A", "zz", "\uffff"):
            source = Counted(data)
            key = Hive(source).key(parent.path)
            key.prefetch_subkeys(prefix)
            assert source.batches <= 12
            before = source.batches
            found = next(key.subkeys(prefix), None)
            if prefix:
                assert source.batches == before
            fitting = [name for name in names if name.upper().startswith(prefix.upper())]
            assert (found.name if found else None) == (fitting[0] if fitting else None)
