"""Run lists: the clusters of the volume (LCN) for those of an attribute (VCN).

Linux-NTFS documentation, concept "Data Runs".
"""

from __future__ import annotations

from collections.abc import Iterator

from imagetool.errors import Corrupt

SPARSE = -1
"""The LCN of a run without clusters: a hole, which reads as zeros."""

_DAMAGED = "The volume is damaged: let the guest check it (chkdsk), or restore the image."


def decode_runs(
    data: bytes, first_vcn: int, cluster_count: int, where: str
) -> Iterator[tuple[int, int, int]]:
    """The runs in `data`: (VCN, number of clusters, LCN or SPARSE).

    `first_vcn` is that of the first run, `cluster_count` the size of the volume. Raises
    Corrupt for a run beyond the volume or a list without an end.
    """
    vcn, lcn, position = first_vcn, 0, 0
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
            lcn += int.from_bytes(data[middle:position], "little", signed=True)
            if lcn < 0 or lcn + count > cluster_count:
                raise Corrupt(
                    f"{where}: a run of {count} clusters from cluster {lcn} lies beyond the "
                    f"volume ({cluster_count} clusters)",
                    hint=_DAMAGED,
                )
            yield vcn, count, lcn
        else:
            yield vcn, count, SPARSE
        vcn += count
    if position >= end:
        raise Corrupt(f"{where}: a run list without an end", hint=_DAMAGED)
