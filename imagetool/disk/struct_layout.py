"""Structures declared with construct and parsed with `struct`.

A declaration in construct reads like the table of the specification, but parsing with it takes
about twenty microseconds, too much for every header of a read that takes a few hundred. All
structures here have fields of fixed size, so each declaration is compiled once into a format of
`struct`.
"""

from __future__ import annotations

import struct
from collections import namedtuple
from collections.abc import Iterator
from typing import Any

from imagetool.disk.declarations import (
    Bytes,
    Const,
    ConstError,
    Construct,
    FormatField,
    Padded,
    StreamError,
    Struct,
)


class StructLayout:
    """A structure of fields of fixed size: `parse` returns them as a named tuple.

    The declaration is a construct Struct of Bytes, Const, Padding and numbers in little-endian
    order, or in big-endian order throughout.
    """

    __slots__ = ("_constants", "_fields", "_format", "size")

    def __init__(self, declaration: Struct) -> None:
        order, codes = "<", ""
        names: list[str] = []
        constants: list[tuple[int, bytes]] = []
        for renamed in declaration.subcons:
            field: Construct = getattr(renamed, "subcon", renamed)
            if isinstance(renamed, Padded):
                codes += f"{renamed.length}x"
                continue
            if isinstance(field, Const):
                constants.append((len(names), field.value))
                codes += f"{len(field.value)}s"
            elif isinstance(field, Bytes):
                codes += f"{field.length}s"
            elif isinstance(field, FormatField):
                if field.fmtstr[0] == ">":
                    order = ">"
                codes += field.fmtstr[1]
            else:
                raise TypeError(f"{renamed.name}: a layout has no {type(field).__name__}")
            names.append(renamed.name)
        self._format = struct.Struct(order + codes)
        self._fields: Any = namedtuple("Fields", names)  # type: ignore[misc]  # names known when it runs
        self._constants = constants
        self.size = self._format.size
        """The length in bytes."""

    def parse(self, data: bytes, offset: int = 0) -> Any:
        """Parse the structure at `offset`. Raises construct's StreamError or ConstError."""
        try:
            values = self._format.unpack_from(data, offset)
        except struct.error:
            raise StreamError(f"{self.size} bytes are needed at offset {offset}") from None
        for index, constant in self._constants:
            if values[index] != constant:
                raise ConstError(f"{values[index]!r} in place of {constant!r}")
        return self._fields._make(values)

    def parse_all(self, data: bytes, offset: int, count: int) -> Iterator[Any]:
        """Parse `count` consecutive structures from `offset` on."""
        for position in range(offset, offset + count * self.size, self.size):
            yield self.parse(data, position)
