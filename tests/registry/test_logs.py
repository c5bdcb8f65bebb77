"""Transaction logs against what Windows itself, yarp and python-registry recovered from them."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetool.disk.source import MemorySource
from imagetool.errors import ImagetoolError
from imagetool.registry import Hive

Load = Callable[[str], bytes]
Dump = Callable[..., list[str]]


def logs_of(load: Load, name: str) -> list[bytes]:
    return [load(f"{name}.LOG1"), load(f"{name}.LOG2")]


def test_the_newest_format_brings_a_windows_10_hive_to_its_last_write(
    load: Load, dump: Dump, truth: Callable[[str], list[str]]
) -> None:
    name = "windows10-SYSTEM-dirty"
    logs = logs_of(load, name)
    assert dump(load(name), logs) == sorted(truth(f"{name}.after"))
    for order in (logs, logs[::-1]):
        hive = Hive(
            MemorySource(load(name)), lambda order=order: [MemorySource(log) for log in order]
        )
        assert hive.sequence == 2130
        key = hive.key(r"ControlSet001\Control\Class\{4d36e967-e325-11ce-bfc1-08002be10318}\0003")
        assert key.get("DriverVersion") == "10.0.16299.251"


@pytest.mark.parametrize(
    ("dirty", "recovered"),
    [
        ("NewDirtyHive1/NewDirtyHive", "NewDirtyHive1/RecoveredHive_Windows10"),
        ("OldDirtyHive/OldDirtyHive", "OldDirtyHive/RecoveredHive_Windows7"),
        ("BadBaseBlockHive/BadBaseBlockHive", "OldDirtyHive/RecoveredHive_Windows7"),
    ],
)
def test_what_windows_recovered_is_what_is_read(
    load: Load, dump: Dump, dirty: str, recovered: str
) -> None:
    name = f"yarp/{dirty}"
    assert dump(load(name), logs_of(load, name)) == dump(load(f"yarp/{recovered}"))


def test_a_log_with_a_wrong_checksum_recovers_nothing(load: Load, dump: Dump) -> None:
    name = "yarp/BadLogHive1/BadLogHive"
    logs = logs_of(load, name)
    hive = Hive(MemorySource(load(name)), lambda: [MemorySource(log) for log in logs])
    assert hive.warnings == ("the hive is dirty, and not recovered: it has no usable log",)
    assert dump(load(name), logs) == dump(load(name))


def test_a_log_ends_at_the_first_entry_whose_hash_is_wrong(load: Load) -> None:
    name = "yarp/NewDirtyHive1/NewDirtyHive"
    logs = [bytearray(log) for log in logs_of(load, name)]
    logs[1][8192 + 4096] ^= 1  # inside the entry of sequence number 4
    hive = Hive(MemorySource(load(name)), lambda: [MemorySource(bytes(log)) for log in logs])
    assert hive.sequence == 3


def test_logs_of_a_clean_hive_are_not_asked_for(load: Load) -> None:
    def never() -> list[MemorySource]:
        raise AssertionError

    assert not Hive(MemorySource(load("nt4-SOFTWARE")), never).dirty


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_damaged_logs_end_in_our_errors_only(load: Load, data: st.DataObject) -> None:
    name = data.draw(
        st.sampled_from(["yarp/NewDirtyHive1/NewDirtyHive", "yarp/OldDirtyHive/OldDirtyHive"])
    )
    logs = [bytearray(log) for log in logs_of(load, name)]
    for log in logs:
        for _ in range(3):
            if len(log) > 1024:
                place = data.draw(st.integers(0, len(log) - 4))
                struct.pack_into("<I", log, place, data.draw(st.sampled_from([0, 1, 0xFFFFFFFF])))
    try:
        hive = Hive(MemorySource(load(name)), lambda: [MemorySource(bytes(log)) for log in logs])
        for key in hive.root.subkeys():
            key.values()
    except ImagetoolError as error:
        assert error.exit_code == 3
