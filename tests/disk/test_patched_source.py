"""A source with some bytes replaced."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from imagetool.disk import MemorySource
from imagetool.disk.patched_source import PatchedSource


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.binary(min_size=1, max_size=3000),
    st.dictionaries(st.integers(0, 7), st.binary(min_size=512, max_size=512)),
    st.lists(st.tuples(st.integers(0, 4096), st.integers(0, 2000)), max_size=3),
    st.lists(st.tuples(st.integers(0, 4200), st.integers(0, 4200)), max_size=5),
)
def test_an_overlay_reads_as_the_patched_bytes_do(
    below: bytes,
    sectors: dict[int, bytes],
    zeros: list[tuple[int, int]],
    ranges: list[tuple[int, int]],
) -> None:
    whole = bytearray(below.ljust(4096, b"\0"))
    for offset, length in zeros:
        end = min(offset + length, 4096)
        whole[offset:end] = bytes(max(0, end - offset))
    for sector, data in sectors.items():
        whole[sector * 512 : sector * 512 + 512] = data
    patched = PatchedSource(MemorySource(below), 4096, sectors, 512, zeros)
    assert patched.read_many(ranges) == [bytes(whole[o : o + n]) for o, n in ranges]
