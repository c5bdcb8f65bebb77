"""The index of a directory: a B-tree of names, and their collation.

Linux-NTFS documentation, attributes "$INDEX_ROOT" and "$INDEX_ALLOCATION", concept "B*Trees". A
name is found by descending the tree, never by reading all of it. Functions take the bytes of a node
and the offset of an entry in it.
"""

from __future__ import annotations

import struct
from codecs import utf_16_le_decode
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import NamedTuple

from imagetool.disk.filetime import from_filetime
from imagetool.errors import Corrupt
from imagetool.filesystem.ntfs import structs as s

_INDEX_HEADER = struct.Struct("<IIIB")
_ENTRY_HEADER = struct.Struct("<QHHI")
_NAME_OFFSET = 82
_RECORD_NUMBER_MASK = 0xFFFFFFFFFFFF

EXACT, BELOW, NONE, OTHER_CASE = range(4)
"""The results of `search`."""

_DAMAGED = "The volume is damaged: let the guest check it (chkdsk), or restore the image."

LoadUpcase = Callable[[], bytes]
"""Reads $UpCase: the upper case of every UTF-16 code unit, two bytes each."""


class IndexEntry(NamedTuple):
    """A directory entry, with the facts of the file in its $FILE_NAME."""

    name: str
    record_number: int
    sequence: int
    is_directory: bool
    size: int
    modified: datetime
    attributes: int


def iter_entries(node: bytes, header_offset: int, where: str) -> Iterator[tuple[int, int, int]]:
    """The entries of a node whose index header is at `header_offset`: (offset, length, flags).

    The last one has no name. Raises Corrupt for an entry that leaves the node.
    """
    first, used, _, _ = _INDEX_HEADER.unpack_from(node, header_offset)
    offset, end = header_offset + first, header_offset + used
    if end > len(node):
        raise Corrupt(f"{where}: an index node of {used} bytes", hint=_DAMAGED)
    while offset + 16 <= end:
        _, length, _, flags = _ENTRY_HEADER.unpack_from(node, offset)
        min_length = 16 + 8 * (flags & s.HAS_SUBNODE)
        if not flags & s.IS_LAST:
            min_length += 66
        if length < min_length or length % 8 or offset + length > end:
            break
        if not flags & s.IS_LAST and _NAME_OFFSET + 2 * node[offset + 80] > length:
            break
        yield offset, length, flags
        if flags & s.IS_LAST:
            return
        offset += length
    raise Corrupt(f"{where}: an index node with a damaged entry at byte {offset}", hint=_DAMAGED)


def entry_name(node: bytes, offset: int) -> str:
    """The name in an entry."""
    start = offset + _NAME_OFFSET
    return node[start : start + 2 * node[offset + 80]].decode("utf-16-le", "surrogatepass")


def entry_subnode(node: bytes, offset: int, length: int) -> int:
    """The VCN of the node below an entry."""
    return int.from_bytes(node[offset + length - 8 : offset + length], "little")


def entry_reference(node: bytes, offset: int) -> tuple[int, int]:
    """The record number and sequence number of the file of an entry."""
    reference = int.from_bytes(node[offset : offset + 8], "little")
    return reference & _RECORD_NUMBER_MASK, reference >> 48


def read_entry(node: bytes, offset: int) -> IndexEntry:
    """The entry at an offset, decoded."""
    number, sequence = entry_reference(node, offset)
    key = offset + 16
    (modified,) = struct.unpack_from("<Q", node, key + 16)
    size, attributes = struct.unpack_from("<QI", node, key + 48)
    return IndexEntry(
        name=entry_name(node, offset),
        record_number=number,
        sequence=sequence,
        is_directory=bool(attributes & s.IS_DIRECTORY),
        size=size,
        modified=from_filetime(modified),
        attributes=attributes & 0xFFFFFF,
    )


def is_dos_name(node: bytes, offset: int) -> bool:
    """True for a short (8.3) name whose file has an entry with its long name too."""
    return node[offset + 81] == s.DOS_NAME


def search(
    node: bytes, header_offset: int, name: str, upcase: LoadUpcase, where: str
) -> tuple[int, int, int]:
    """Search one node for a name: (EXACT, offset, length) of its entry.

    OTHER_CASE for one whose name differs in the case of letters alone; (BELOW, offset, length)
    where the search goes on in the node below that entry; (NONE, 0, 0) where there is no such name.
    """
    if name.isascii():
        found = _search_ascii(node, header_offset, name)
        if found is not None:
            return found
    for offset, length, flags in iter_entries(node, header_offset, where):
        if not flags & s.IS_LAST:
            other = entry_name(node, offset)
            order = compare_names(name, other, upcase)
            if order > 0:
                continue
            if order == 0:
                return EXACT if name == other else OTHER_CASE, offset, length
        return (BELOW, offset, length) if flags & s.HAS_SUBNODE else (NONE, 0, 0)
    return NONE, 0, 0


def _search_ascii(node: bytes, header_offset: int, name: str) -> tuple[int, int, int] | None:
    """As `search`; None where a name is not ASCII or the node is damaged.

    The fast path: it serves nearly every look-up, and takes most of its time.
    """
    upper = name.upper()
    first, used, _, _ = _INDEX_HEADER.unpack_from(node, header_offset)
    offset, end = header_offset + first, min(header_offset + used, len(node))
    unpack = _ENTRY_HEADER.unpack_from
    while offset + 16 <= end:
        _, length, _, flags = unpack(node, offset)
        after = offset + length
        if length < 16 or after > end:
            return None
        if not flags & 2:
            start = offset + _NAME_OFFSET
            stop = start + 2 * node[offset + 80] if length > _NAME_OFFSET else after + 1
            raw = utf_16_le_decode(node[start:stop], "replace")[0]
            if stop > after or not raw.isascii():
                return None
            other = raw.upper()
            if upper > other:
                offset = after
                continue
            if upper == other:
                return EXACT if name == raw else OTHER_CASE, offset, length
        if flags & 1:
            return (BELOW, offset, length) if length >= 24 else None
        return NONE, 0, 0
    return None


def compare_names(left: str, right: str, upcase: LoadUpcase) -> int:
    """Compare two names in the volume's own upper case (COLLATION_FILE_NAME): -1, 0 or 1.

    `upcase` is called only where a character beyond ASCII decides: the table takes 128 KiB to read.
    """
    if left.isascii() and right.isascii():
        one_name, other_name = left.upper(), right.upper()
        return (one_name > other_name) - (one_name < other_name)
    units = [memoryview(_utf16_units(name)).cast("H") for name in (left, right)]
    for one, other in zip(*units, strict=False):
        if one == other:
            continue
        if one < 128 and other < 128:
            one, other = (unit - 32 if 97 <= unit <= 122 else unit for unit in (one, other))
        else:
            table = upcase()
            one, other = (
                int.from_bytes(table[2 * unit : 2 * unit + 2], "little") for unit in (one, other)
            )
        if one != other:
            return -1 if one < other else 1
    lengths = len(units[0]), len(units[1])
    return (lengths[0] > lengths[1]) - (lengths[0] < lengths[1])


def _utf16_units(name: str) -> bytes:
    """The code units of a name in this machine's byte order."""
    import sys

    order = "utf-16-le" if sys.byteorder == "little" else "utf-16-be"
    return name.encode(order, "surrogatepass")
