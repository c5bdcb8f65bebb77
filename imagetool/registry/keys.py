"""Keys and their lists of subkeys.

Suhanov, "Key node", "Subkeys list", "Key values list". Lists are sorted by the upper-case name;
a large one is an index root (`ri`) of leaves, of which only those that a binary search visits are
read, as Windows does. `lh` entries carry a hash of the name, `lf` entries its first four
characters: a key's cell is read only if they match.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterator
from datetime import datetime
from itertools import chain

from imagetool.budget import Budget
from imagetool.disk.filetime import from_filetime
from imagetool.errors import NotFound
from imagetool.registry.cells import NO_CELL, Cells
from imagetool.registry.upper_case import upper_units
from imagetool.registry.values import Value, ValueData, decode_units

_KEY_NODE = struct.Struct("<2sHQ")
_COUNTS = struct.Struct("<IIIIII")  # from byte 20: subkeys, volatile ones, their lists, values
_NAME_LENGTH = struct.Struct("<H")
_NAME_OFFSET = 76
_NAME_IS_LATIN1 = 0x20
_SUBKEYS_PER_BATCH = 512
_SEARCH_STEPS_PER_BATCH = 4
_MAX_USUAL_SUBKEYS = 1012
"""Entries of one list as Windows writes it; longer ones cost of the budget where they are read."""
_SUBKEYS_PER_OBJECT = 16
_SUBKEYS_PER_PREFIX_BATCH = 4  # as a rule no more names share a prefix


def _name_hash(upper: str) -> int:
    value = 0
    for char in upper:
        value = (value * 37 + ord(char)) & 0xFFFFFFFF
    return value


class Key:
    """A key of a hive: name, time of its last change, subkeys and values."""

    __slots__ = ("_cell", "_cells", "_values", "name", "offset", "path")

    def __init__(self, cells: Cells, offset: int, cell: bytes, parent: str | None) -> None:
        name = _parse_name(cells, offset, cell)
        self._cells = cells
        self._cell = cell
        self._values: list[Value] | None = None
        self.offset = offset
        """The offset of its cell, counted from the first hive bin."""
        self.name = name
        self.path = "" if parent is None else f"{parent}\\{name}" if parent else name
        """The path from the root of the hive, whose own path is empty."""

    def __repr__(self) -> str:
        return f"Key({self.path!r})"

    @property
    def budget(self) -> Budget:
        """What a question on its hive may cost."""
        return self._cells.budget

    @property
    def last_written(self) -> datetime:
        """The time of the last change of the key or its values, in UTC."""
        return from_filetime(_KEY_NODE.unpack_from(self._cell)[2])

    @property
    def subkey_count(self) -> int:
        """The number of subkeys that the key node records."""
        return int(_COUNTS.unpack_from(self._cell, 20)[0])

    # Subkeys

    def subkey(self, name: str) -> Key | None:
        """The subkey of that name, in any case of letters, or None."""
        count, _, list_cell, *_ = _COUNTS.unpack_from(self._cell, 20)
        if not count or list_cell == NO_CELL:
            return None
        upper = upper_units(name)
        kind, offsets, cell = self._read_list(list_cell)
        if kind == b"ri":
            return self._search_root(offsets, upper)
        return self._search_leaf(kind, offsets, cell, upper)

    def find(self, path: str) -> Key | None:
        """The key at `path` below this one (names separated by backslashes), or None."""
        key: Key | None = self
        for name in filter(None, path.split("\\")):
            key = key.subkey(name) if key is not None else None
        return key

    def subkeys(self, prefix: str = "") -> Iterator[Key]:
        """The subkeys in the order of the hive, read in batches.

        With a prefix only those whose names begin with it, in any case of letters: found by binary
        search in the sorted list, without reading the others.
        """
        upper = upper_units(prefix)
        offsets = self._subkey_offsets()
        start = self._lower_bound(offsets, upper) if prefix else 0
        size = _SUBKEYS_PER_PREFIX_BATCH if prefix else _SUBKEYS_PER_BATCH
        for index in range(start, len(offsets), size):
            batch = offsets[index : index + size]
            for offset, cell in zip(batch, self._cells.cells(batch), strict=True):
                key = Key(self._cells, offset, cell, self.path)
                if prefix and not upper_units(key.name).startswith(upper):
                    return
                yield key

    def prefetch_subkeys(self, prefix: str) -> None:
        """Read what `subkeys(prefix)` searches through, where a read is a round trip.

        Four steps of its binary search are read at once: more cells, and a quarter of the batches.
        """
        upper = upper_units(prefix)
        offsets = self._subkey_offsets()
        low, high = 0, len(offsets)
        while low < high:
            indexes = tuple(_midpoints(low, high, _SEARCH_STEPS_PER_BATCH))
            self._cells.cells([offsets[index] for index in indexes])
            for _ in range(_SEARCH_STEPS_PER_BATCH):
                if low < high:
                    middle = (low + high) // 2
                    cell = self._cells.cell(offsets[middle])
                    if upper_units(_parse_name(self._cells, offsets[middle], cell)) < upper:
                        low = middle + 1
                    else:
                        high = middle
        self._cells.cells(offsets[low : low + _SUBKEYS_PER_PREFIX_BATCH])

    def _subkey_offsets(self) -> tuple[int, ...]:
        """The cell offsets of all subkeys, in order. Raises Corrupt if a list appears twice."""
        count, _, list_cell, *_ = _COUNTS.unpack_from(self._cell, 20)
        if not count or list_cell == NO_CELL:
            return ()
        kind, offsets, _ = self._read_list(list_cell)
        if kind != b"ri":
            return offsets
        if len(set(offsets)) != len(offsets) or list_cell in offsets:
            raise self._cells.damaged(list_cell, "a list of subkeys appears twice")
        self._cells.cells(offsets)  # in one batch
        return tuple(chain.from_iterable(self._read_leaf(leaf)[1] for leaf in offsets))

    def _lower_bound(self, offsets: tuple[int, ...], upper: str) -> int:
        """The index of the first name that does not sort before `upper`."""
        return bisect_left(
            range(len(offsets)),
            upper,
            key=lambda index: upper_units(
                _parse_name(self._cells, offsets[index], self._cells.cell(offsets[index]))
            ),
        )

    def _read_list(self, offset: int) -> tuple[bytes, tuple[int, ...], bytes]:
        cell = self._cells.cell(offset)
        kind, count = cell[:2], int.from_bytes(cell[2:4], "little")
        if count > _MAX_USUAL_SUBKEYS:
            self._cells.budget.spend(self._cells.name, count // _SUBKEYS_PER_OBJECT)
        words = count * (2 if kind in (b"lf", b"lh") else 1)
        if kind not in (b"lf", b"lh", b"li", b"ri") or len(cell) < 4 + 4 * words:
            raise self._cells.damaged(offset, f"no sound list of {count} subkeys")
        entries = struct.unpack_from(f"<{words}I", cell, 4)
        return kind, entries[::2] if words > count else entries, cell

    def _read_leaf(self, offset: int) -> tuple[bytes, tuple[int, ...], bytes]:
        leaf = self._read_list(offset)
        if leaf[0] == b"ri":
            raise self._cells.damaged(offset, "an index root below an index root")
        return leaf

    def _search_root(self, leaves: tuple[int, ...], upper: str) -> Key | None:
        low, high = 0, len(leaves)
        while low < high:
            middle = (low + high) // 2
            kind, offsets, cell = self._read_leaf(leaves[middle])
            if not offsets:
                raise self._cells.damaged(leaves[middle], "an empty list of subkeys")
            ends = (offsets[0], offsets[-1])
            first, last = (
                upper_units(_parse_name(self._cells, *item))
                for item in zip(ends, self._cells.cells(ends), strict=True)
            )
            if upper < first:
                high = middle
            elif upper > last:
                low = middle + 1
            else:
                return self._search_leaf(kind, offsets, cell, upper)
        return None

    def _search_leaf(
        self, kind: bytes, offsets: tuple[int, ...], cell: bytes, upper: str
    ) -> Key | None:
        if kind == b"li":
            return self._search_sorted(offsets, upper)
        if kind == b"lh":
            candidates = [
                offsets[index] for index in _matching_indexes(_name_hash(upper), cell, len(offsets))
            ]
        else:
            hints = struct.unpack_from(f"<{2 * len(offsets)}I", cell, 4)[1::2]
            start = upper[:4].encode("latin-1", "replace").ljust(4, b"\0")
            candidates = [
                offsets[index]
                for index, hint in enumerate(hints)
                if not hint or hint.to_bytes(4, "little").upper() == start or not upper.isascii()
            ]
        if len(candidates) > 1:
            self._cells.budget.spend(self._cells.name, len(candidates))
        for offset in candidates:
            data = self._cells.cell(offset)
            if upper_units(_parse_name(self._cells, offset, data)) == upper:
                return Key(self._cells, offset, data, self.path)
        return None

    def _search_sorted(self, offsets: tuple[int, ...], upper: str) -> Key | None:
        low, high = 0, len(offsets)
        while low < high:
            middle = (low + high) // 2
            data = self._cells.cell(offsets[middle])
            name = upper_units(_parse_name(self._cells, offsets[middle], data))
            if name == upper:
                return Key(self._cells, offsets[middle], data, self.path)
            low, high = (middle + 1, high) if name < upper else (low, middle)
        return None

    # Values

    def values(self) -> list[Value]:
        """All values in the order of the hive; the name of the default value is empty."""
        if self._values is None:
            self._values = self._read_values()
        return self._values

    def _read_values(self) -> list[Value]:
        count, list_cell = _COUNTS.unpack_from(self._cell, 20)[4:]
        if not count or list_cell == NO_CELL:
            return []
        listed = self._cells.cell(list_cell)
        if len(listed) < 4 * count:
            raise self._cells.damaged(list_cell, f"a list too short for {count} values")
        offsets = struct.unpack_from(f"<{count}I", listed)
        return [
            Value(self._cells, offset, cell)
            for offset, cell in zip(offsets, self._cells.cells(offsets), strict=True)
        ]

    def value(self, name: str) -> Value | None:
        """The value of that name, in any case of letters, or None; "" is the default value."""
        upper = upper_units(name)
        return next((value for value in self.values() if upper_units(value.name) == upper), None)

    def get(self, name: str) -> ValueData | None:
        """The data of the value of that name, or None if there is none."""
        value = self.value(name)
        return None if value is None else value.data

    def text(self, name: str) -> str:
        """The data of a value if it is text, else an empty string."""
        data = self.get(name)
        return data if isinstance(data, str) else ""

    def number(self, name: str) -> int | None:
        """The data of a value if it is a number, else None."""
        data = self.get(name)
        return data if isinstance(data, int) else None

    def require(self, path: str) -> Key:
        """The key at `path` below this one. Raises NotFound if there is none."""
        key = self.find(path)
        if key is None:
            where = f"{self.path}\\{path}" if self.path else path
            raise NotFound(
                f"{self._cells.name}: there is no key {where}",
                hint="`imagetool registry list` shows what is there.",
            )
        return key


def _midpoints(low: int, high: int, steps: int) -> Iterator[int]:
    """The indexes that `steps` steps of a binary search may visit."""
    if low < high and steps:
        middle = (low + high) // 2
        yield middle
        yield from _midpoints(low, middle, steps - 1)
        yield from _midpoints(middle + 1, high, steps - 1)


def _matching_indexes(hint: int, cell: bytes, count: int) -> Iterator[int]:
    """The indexes of the entries of an `lh` list with this hash, stored at byte 8, 16, 24 …"""
    wanted, end = hint.to_bytes(4, "little"), 4 + 8 * count
    found = cell.find(wanted, 8, end)
    while found >= 0:
        if not found & 7:
            yield found // 8 - 1
        found = cell.find(wanted, found + 1, end)


def _parse_name(cells: Cells, offset: int, cell: bytes) -> str:
    if len(cell) < _NAME_OFFSET or cell[:2] != b"nk":
        raise cells.damaged(offset, "a key was expected here")
    (length,) = _NAME_LENGTH.unpack_from(cell, 72)
    name = cell[_NAME_OFFSET : _NAME_OFFSET + length]
    if len(name) != length:
        raise cells.damaged(offset, f"a key's name of {length} bytes does not fit")
    if cell[2] & _NAME_IS_LATIN1:
        return name.decode("latin-1")
    return decode_units(name)
