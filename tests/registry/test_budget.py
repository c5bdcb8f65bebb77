"""Hives whose many entries name one object: an answer within the budget, or one sentence."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.bombs import hives
from fixtures.made_hives import MadeHive
from imagetool.budget import MAX_OBJECTS
from imagetool.disk import MemorySource
from imagetool.errors import BudgetSpent, ImagetoolError, Unreadable
from imagetool.registry import Hive
from imagetool.registry.listing import list_key
from imagetool.report import render

MADE = (hives.values, hives.subkeys, hives.segments, hives.hashes, hives.chain)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", MADE)
def test_a_listing_is_an_answer_or_one_sentence(
    make: Callable[[random.Random], bytes], seed: int
) -> None:
    data = make(random.Random(seed))
    begun = time.process_time()
    try:
        root = Hive(MemorySource(data)).root
        listing = list_key(root, "")
        assert len(listing.subkeys) + len(listing.values) <= MAX_OBJECTS
        assert len(render(listing, "json")) < 40 << 20
    except Unreadable as error:
        assert "describe more" in error.message or "appears twice" in error.message
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
    source = MemorySource(hives.hashes(random.Random(1)))
    root = Hive(source).root
    with pytest.raises(BudgetSpent), source.budget:
        for _ in range(1000):
            root.subkey("A")
