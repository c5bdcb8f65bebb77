"""Hives whose many entries name one object: an answer within the budget, or one sentence."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from imagetool.budget import MAX_OBJECTS
from imagetool.disk import MemorySource
from imagetool.errors import BudgetSpent, ImagetoolError
from imagetool.registry import Hive
from imagetool.registry.listing import list_key
from imagetool.report import render
from tests.registry.made_hives import MadeHive


def same_value(size: int) -> bytes:
    hive = MadeHive()
    value = hive.add_value("v", 3, size, hive.add(bytes(size)))
    listed = hive.add_offsets(b"", [value] * 250_000)
    return hive.finish(hive.add_key("root", (0, 0), (250_000, listed)))


def same_leaf(kind: str) -> bytes:
    """Leaves of 60,000 entries that all name one key, or one another's keys."""
    hive = MadeHive()
    key = hive.add_key("a")
    leaves = [hive.add_list(b"li", [key] * 60_000) for _ in range(20 if kind == "many" else 1)]
    count = 60_000 * len(leaves)
    return hive.finish(hive.add_key("root", (count, hive.add_list(b"ri", leaves))))


def same_segment() -> bytes:
    hive = MadeHive()
    segment = hive.add(bytes(16344))
    values = []
    for number in range(200):
        listed = hive.add_offsets(b"", [segment] * 600)
        big = hive.add(struct.pack("<2sHI", b"db", 600, listed))
        values.append(hive.add_value(f"v{number}", 3, 600 * 16344, big))
    listed = hive.add_offsets(b"", values)
    return hive.finish(hive.add_key("root", (0, 0), (200, listed)))


def same_hash(entries: int = 65_535) -> bytes:
    """Every entry of the list has the hash of the name that is looked for, and is another's."""
    hive = MadeHive()
    key = hive.add_key("b")
    listed = hive.add(struct.pack("<2sH", b"lh", entries) + struct.pack("<II", key, 65) * entries)
    return hive.finish(hive.add_key("root", (entries, listed)))


MADE = {
    "values of 1 byte": lambda: same_value(5),
    "values of 1 MB": lambda: same_value(1 << 20),
    "one leaf": lambda: same_leaf("one"),
    "many leaves": lambda: same_leaf("many"),
    "segments": same_segment,
    "hashes": same_hash,
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_a_listing_is_an_answer_or_one_sentence(make: Callable[[], bytes]) -> None:
    data = make()
    begun = time.process_time()
    try:
        root = Hive(MemorySource(data)).root
        listing = list_key(root, "")
        assert len(listing.subkeys) + len(listing.values) <= MAX_OBJECTS
        assert len(render(listing, "json")) < 40 << 20
    except BudgetSpent as error:
        assert error.exit_code == 3
        assert "describe more" in error.message
    assert time.process_time() - begun < 20  # ten times what is wanted: machines are shared


def test_the_hive_of_one_value_many_times_is_refused(unpack: Callable[[str], Path]) -> None:
    data = unpack("found/bombs/values_same.hive.xz").read_bytes()
    with pytest.raises(BudgetSpent):
        list_key(Hive(MemorySource(data)).root, "")


def test_questions_share_no_budget_and_each_one_is_bounded() -> None:
    hive = MadeHive()
    keys = [hive.add_key(f"{number:06}") for number in range(1000)]
    source = MemorySource(hive.finish(hive.add_key("root", (1000, hive.add_list(b"li", keys)))))
    root = Hive(source).root
    for _ in range(2 * MAX_OBJECTS // 1000):  # an image that stays open never runs dry
        list_key(root, "")
    with pytest.raises(ImagetoolError), source.budget:
        for _ in range(2 * MAX_OBJECTS // 1000):
            list_key(root, "")
    list_key(root, "")


def test_looking_for_what_is_not_there_costs_of_the_question(tmp_path: Path) -> None:
    source = MemorySource(same_hash())
    root = Hive(source).root
    with pytest.raises(BudgetSpent), source.budget:
        for _ in range(1000):
            root.subkey("A")
