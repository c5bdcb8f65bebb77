"""Versions as Windows writes them: read by hand, and by an expression beside it."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from imagetool.package.identity import Version

_VERSION = re.compile(r"\s*([0-9]{1,5})\.([0-9]{1,5})(?:\.([0-9]{1,5}))?(?:\.([0-9]{1,5}))?\s*")


@given(
    st.text(alphabet="0123456789. -+_\t\n\0\x1c\u00a0\u0661\u00b2ve", max_size=24)
    | st.lists(st.integers(0, 100_000), min_size=1, max_size=5).map(lambda n: ".".join(map(str, n)))
)
@example("6.3.9600.65536")
@example("6.3.\u0661")
@example(" 6.3.9600.1 \n\0")
def test_a_version_is_two_to_four_numbers_with_dots_between_them(text: str) -> None:
    match = _VERSION.fullmatch(text.rstrip("\0"))
    numbers = [int(group or 0) for group in match.groups()] if match else []
    wanted = Version(*numbers) if numbers and max(numbers) <= 0xFFFF else None
    assert Version.parse(text) == wanted
