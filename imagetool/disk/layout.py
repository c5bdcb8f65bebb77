"""Declared layouts that become fast where they are used often.

construct compiles a declaration in about a millisecond, and a compiled one parses four times as
fast. A program that asks one question must not pay for the first, a library that asks a thousand
must not pay for its absence: a layout is compiled once it has been used some times.
"""

from __future__ import annotations

from typing import Any

from construct import Construct

_WARM = 8


class Layout:
    """A construct declaration: `parse` gives its fields. Raises construct's errors."""

    __slots__ = ("_construct", "_uses")

    def __init__(self, declaration: Construct) -> None:
        self._construct = declaration
        self._uses = 0

    def parse(self, data: bytes) -> Any:
        """The fields of the structure that begins `data`."""
        if self._uses < _WARM:
            self._uses += 1
            if self._uses == _WARM:
                self._construct = self._construct.compile()
        return self._construct.parse(data)
