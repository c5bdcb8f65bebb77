"""Run lists: which clusters of the volume hold the clusters of an attribute.

Linux-NTFS documentation, concept "Data Runs".
"""

from __future__ import annotations

from collections.abc import Iterator

from imagetool.errors import Corrupt

SPARSE = -1

_DAMAGED = "The volume is damaged: let the guest check it (chkdsk), or restore the image."


def decode_runs(
    data: bytes, first: int, clusters: int, where: str
) -> Iterator[tuple[int, int, int]]:
    """The runs in `data`: (cluster of the attribute, how many, cluster of the volume or SPARSE).

    `first` is the attribute's cluster that the list begins with, `clusters` the size of the
    volume. Raises Corrupt for a run beyond the volume or a list without an end.
    """
    place, here, position = first, 0, 0
    end = len(data)
    while position < end and data[position]:
        lengths, offsets = data[position] & 15, data[position] >> 4
        middle = position + 1 + lengths
        position = middle + offsets
        if not 0 < lengths <= 8 or offsets > 8 or position > end:
            raise Corrupt(f"{where}: a damaged run list", hint=_DAMAGED)
        count = int.from_bytes(data[middle - lengths : middle], "little")
        if not 0 < count <= 1 << 52:
            raise Corrupt(f"{where}: a run of {count} clusters", hint=_DAMAGED)
        if offsets:
            here += int.from_bytes(data[middle:position], "little", signed=True)
            if here < 0 or here + count > clusters:
                raise Corrupt(
                    f"{where}: a run of {count} clusters from cluster {here} lies beyond the "
                    f"volume ({clusters} clusters)",
                    hint=_DAMAGED,
                )
            yield place, count, here
        else:
            yield place, count, SPARSE
        place += count
    if position >= end:
        raise Corrupt(f"{where}: a run list without an end", hint=_DAMAGED)
