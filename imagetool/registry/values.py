"""Registry values: types, data, and their text for `registry get`.

Suhanov, "Key value", "Big data". Sizes are checked against the cells; data whose length does not
fit its type is returned as bytes.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from imagetool.registry.cells import Cells

_VALUE = struct.Struct("<2sHIIIH")
_BIG_DATA = struct.Struct("<2sHI")
_SEGMENT_SIZE = 16344
_RESIDENT = 0x80000000
_NAME_IS_LATIN1 = 1
_MAX_VALUE_SIZE = 16 << 20

ValueData = str | int | list[str] | bytes


class ValueType(IntEnum):
    """The types that Windows defines (winnt.h)."""

    REG_NONE = 0
    REG_SZ = 1
    REG_EXPAND_SZ = 2
    REG_BINARY = 3
    REG_DWORD = 4
    REG_DWORD_BIG_ENDIAN = 5
    REG_LINK = 6
    REG_MULTI_SZ = 7
    REG_RESOURCE_LIST = 8
    REG_FULL_RESOURCE_DESCRIPTOR = 9
    REG_RESOURCE_REQUIREMENTS_LIST = 10
    REG_QWORD = 11


_TEXT_TYPES = (ValueType.REG_SZ, ValueType.REG_EXPAND_SZ, ValueType.REG_LINK)


class Value:
    """A value of a key. Its data is read on first access."""

    __slots__ = ("_cells", "_data_cell", "_raw", "_size", "name", "type")

    def __init__(self, cells: Cells, offset: int, cell: bytes) -> None:
        if len(cell) < 20 or cell[:2] != b"vk":
            raise cells.damaged(offset, "a value was expected here")
        length: int
        number: int
        self._size: int
        self._data_cell: int
        _, length, self._size, self._data_cell, number, flags = _VALUE.unpack_from(cell)
        name = cell[20 : 20 + length]
        if len(name) != length:
            raise cells.damaged(offset, f"a value's name of {length} bytes does not fit")
        latin1 = flags & _NAME_IS_LATIN1
        self.name: str = name.decode("latin-1") if latin1 else decode_units(name)
        self.type: int = ValueType(number) if number <= ValueType.REG_QWORD else number
        self._cells = cells
        self._raw: bytes | None = None

    def __repr__(self) -> str:
        return f"Value({self.name!r}, {self.type_name})"

    @property
    def type_name(self) -> str:
        """REG_SZ and so on; the number in hexadecimal if Windows defines no name for it."""
        return self.type.name if isinstance(self.type, ValueType) else f"0x{self.type:x}"

    @property
    def size(self) -> int:
        """The length of the data in bytes."""
        return self._size & ~_RESIDENT

    @property
    def raw(self) -> bytes:
        """The data as stored. Raises Corrupt if its cells are damaged."""
        if self._raw is None:
            self._raw = self._read()
        return self._raw

    def _read(self) -> bytes:
        size = self.size
        if self._size & _RESIDENT:
            if size > 4:
                raise self._cells.damaged(self._data_cell, f"resident data of {size} bytes")
            return self._data_cell.to_bytes(4, "little")[:size]
        if not size:
            return b""
        if size > _MAX_VALUE_SIZE:
            raise self._cells.damaged(self._data_cell, f"a value of {size} bytes")
        cell = self._cells.cell(self._data_cell)
        segmented = size > _SEGMENT_SIZE and self._cells.has_big_data
        if segmented and cell[:2] == b"db" and len(cell) >= _BIG_DATA.size:
            cell = self._read_segments(cell, size)
        if len(cell) < size:
            raise self._cells.damaged(self._data_cell, f"{size} bytes of data do not fit")
        return cell[:size]

    def _read_segments(self, cell: bytes, size: int) -> bytes:
        _, count, list_cell = _BIG_DATA.unpack_from(cell)
        listed = self._cells.cell(list_cell)
        if count != -(-size // _SEGMENT_SIZE) or len(listed) < 4 * count:
            raise self._cells.damaged(self._data_cell, f"{count} segments for {size} bytes")
        segments = self._cells.cells(struct.unpack_from(f"<{count}I", listed))
        return b"".join(segment[:_SEGMENT_SIZE] for segment in segments)

    @property
    def data(self) -> ValueData:
        """The data by its type: text, number, list of texts, or bytes."""
        raw = self.raw
        if self.type in _TEXT_TYPES:
            return _decode_text(raw)
        if self.type == ValueType.REG_MULTI_SZ:
            # Empty items within a list count: a pending rename to nothing is a deletion.
            text = decode_units(raw).rstrip("\0")
            return text.split("\0") if text else []
        if self.type == ValueType.REG_DWORD and len(raw) == 4:
            return int.from_bytes(raw, "little")
        if self.type == ValueType.REG_DWORD_BIG_ENDIAN and len(raw) == 4:
            return int.from_bytes(raw, "big")
        if self.type == ValueType.REG_QWORD and len(raw) == 8:
            return int.from_bytes(raw, "little")
        return raw

    def text(self) -> str:
        """The data as text, as format_data writes it."""
        return format_data(self.data)


def format_data(data: ValueData) -> str:
    """Return data as text: lists one item a line, bytes in hexadecimal, numbers in decimal."""
    if isinstance(data, bytes):
        return data.hex()
    return "\n".join(data) if isinstance(data, list) else str(data)


def _decode_text(raw: bytes) -> str:
    """A text ends at its NUL, as for Windows; what lies behind is in `raw` alone."""
    return decode_units(raw).partition("\0")[0]


def decode_units(raw: bytes) -> str:
    """Return UTF-16 code units as text; a surrogate that stands alone stays one."""
    return raw[: len(raw) & ~1].decode("utf-16-le", "surrogatepass")
