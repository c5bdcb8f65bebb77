"""DER, read lazily and strictly: every tag is named, one encoding for a value, nothing left over.

ITU-T X.690, sections 8 and 10. An element is only looked into when asked, so a structure costs what
is read of it. Whatever follows the last field of a sequence is damage, and so is a value in another
encoding than its shortest: no digest covers either.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from imagetool.errors import Corrupt

_DAMAGED = "The signature is damaged: compare the package with its origin."
MAX_STRUCTURE_SIZE = 4 << 20

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, IDENTIFIER = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
SEQUENCE, SET, UTC_TIME, GENERALIZED_TIME = 0x30, 0x31, 0x17, 0x18
ANY_TAG = -1
"""For what a signature covers, with tag and length."""
_CONSTRUCTED = 0x20
_MAX_DEPTH = 32
_UTC_TIME = re.compile(rb"(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z")
_GENERALIZED_TIME = re.compile(rb"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(?:\.\d{1,9})?Z")


def context(number: int, *, constructed: bool = True) -> int:
    """Return the tag of a context-specific element."""
    return 0x80 | (0x20 if constructed else 0) | number


class Element(NamedTuple):
    """An element within `data`: its tag, its offset, and those of its contents and its end."""

    data: bytes
    where: str
    tag: int
    start: int
    contents_start: int
    end: int

    @property
    def whole(self) -> bytes:
        """The encoding with tag and length."""
        return self.data[self.start : self.end]

    @property
    def contents(self) -> bytes:
        """The contents octets."""
        return self.data[self.contents_start : self.end]

    def elements(self, *tags: int) -> Iterator[Element]:
        """Iterate over the elements in it, which have one of these tags; for ANY_TAG any.

        Raises Corrupt.
        """
        for item in self._any_elements():
            if item.tag not in tags and tags != (ANY_TAG,):
                raise item.damaged("an element of another kind than belongs here")
            yield item

    def _any_elements(self) -> Iterator[Element]:
        offset = self.contents_start
        while offset < self.end:
            item = _read(self.data, offset, self.end, self.where)
            yield item
            offset = item.end

    def fields(self) -> Fields:
        """Read the elements in it one after the other. Raises Corrupt unless it is a SEQUENCE."""
        if self.tag != SEQUENCE:
            raise self.damaged("no sequence where one belongs")
        return Fields(self, self._any_elements())

    def check_all(self, depth: int = 0) -> None:
        """Raise Corrupt unless all that it is made of is DER."""
        if depth > _MAX_DEPTH:
            raise self.damaged("elements within elements without an end")
        if self.tag & _CONSTRUCTED:
            for item in self._any_elements():
                item.check_all(depth + 1)

    def damaged(self, reason: str) -> Corrupt:
        """Make the error for a fault in it."""
        return _damaged(self.where, f"{reason} (offset {self.start})")


class Fields:
    """The fields of a sequence, taken in their order. Raises Corrupt for one that is missing."""

    def __init__(self, element: Element, rest: Iterator[Element]) -> None:
        self._element = element
        self._rest = rest
        self._next = next(self._rest, None)

    def take(self, *tags: int) -> Element:
        """Take the next field, which has one of these tags."""
        found = self._next
        if found is None or found.tag not in tags:
            raise self._element.damaged("a field of the signature is missing")
        self._next = next(self._rest, None)
        return found

    def optional(self, tag: int) -> Element | None:
        """Take the next field if it has this tag."""
        return self.take(tag) if self._next is not None and self._next.tag == tag else None

    def end(self) -> None:
        """Raise Corrupt if a field is left."""
        if self._next is not None:
            raise self._next.damaged("a field that the signature should not have")


def parse(data: bytes, tag: int, where: str) -> Element:
    """Parse the element that `data` consists of. Raises Corrupt, naming `where`."""
    found = parse_first(data, tag, where)
    if found.end != len(data):
        raise _damaged(where, f"{len(data) - found.end} bytes follow the signature")
    return found


def parse_first(data: bytes, tag: int, where: str) -> Element:
    """Parse the element at the start of `data`, whatever follows it. Raises Corrupt."""
    if len(data) > MAX_STRUCTURE_SIZE:
        raise Corrupt(f"{where}: a structure of {len(data)} bytes", hint=_DAMAGED)
    found = _read(data, 0, len(data), where)
    if found.tag != tag:
        raise _damaged(where, f"no DER: it begins with the tag {found.tag:#04x}")
    return found


def _read(data: bytes, start: int, end: int, where: str) -> Element:
    if end - start < 2 or data[start] & 0x1F == 0x1F:  # no structure here has long tags
        raise _damaged(where, f"no DER at offset {start}")
    length, contents_start = data[start + 1], start + 2
    if length & 0x80:
        size = length & 0x7F
        contents_start += size
        raw = data[start + 2 : contents_start]
        length = int.from_bytes(raw, "big")
        if not 1 <= size <= 4 or len(raw) < size or raw[0] == 0 or length < 0x80:
            raise _damaged(where, f"the length at offset {start} is not in DER")
    if length > end - contents_start:
        raise _damaged(where, f"the element at offset {start} is cut off")
    found = Element(data, where, data[start], start, contents_start, contents_start + length)
    check = _SHORTEST.get(found.tag)
    if check is not None and not check(data[contents_start : found.end]):
        raise _damaged(where, f"the value at offset {start} is not in DER")
    return found


def _is_shortest_integer(raw: bytes) -> bool:
    """Nine equal bits at the start are one too many (X.690, 8.3.2)."""
    return len(raw) == 1 or (len(raw) > 1 and (raw[0], raw[1] >> 7) not in ((0, 0), (0xFF, 1)))


def _is_shortest_identifier(raw: bytes) -> bool:
    """No number in it begins with a group of zeros (X.690, 8.19.2)."""
    starts = (0, *(index for index, byte in enumerate(raw, 1) if not byte & 0x80))
    return all(raw[start : start + 1] != b"\x80" for start in starts)


_SHORTEST: dict[int, Callable[[bytes], bool]] = {
    BOOLEAN: (b"\0", b"\xff").__contains__,
    INTEGER: _is_shortest_integer,
    NULL: (b"",).__contains__,
    IDENTIFIER: _is_shortest_identifier,
}


def _damaged(where: str, reason: str) -> Corrupt:
    return Corrupt(f"{where}: {reason}", hint=_DAMAGED)


def identifier(element: Element) -> str:
    """Return an object identifier in its dotted form."""
    if element.tag != IDENTIFIER:
        raise element.damaged("no object identifier")
    text = _dotted(element.contents)
    if not text:
        raise element.damaged("an object identifier that is none")
    return text


@lru_cache(256)
def _dotted(raw: bytes) -> str:
    numbers, number = [], 0
    if not 0 < len(raw) <= 64 or raw[-1] & 0x80:
        return ""
    for byte in raw:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def integer(element: Element) -> int:
    """Return an integer."""
    if element.tag != INTEGER or not element.contents or len(element.contents) > 64:
        raise element.damaged("no integer")
    return int.from_bytes(element.contents, "big", signed=True)


def algorithm(element: Element) -> str:
    """Return the identifier of an algorithm that has no parameters, or NULL for them."""
    fields = element.fields()
    found = identifier(fields.take(IDENTIFIER))
    fields.optional(NULL)
    fields.end()
    return found


def time(element: Element) -> datetime:
    """Return a UTCTime (RFC 5280, 4.1.2.5.1) or GeneralizedTime, to the second."""
    pattern = {UTC_TIME: _UTC_TIME, GENERALIZED_TIME: _GENERALIZED_TIME}.get(element.tag)
    match = pattern.fullmatch(element.contents) if pattern else None
    if match is None:
        raise element.damaged("no time")
    year, *rest = map(int, match.groups())
    if element.tag == UTC_TIME:
        year += 2000 if year < 50 else 1900
    try:
        return datetime(year, *rest, tzinfo=UTC)  # type: ignore[misc, arg-type]  # five numbers
    except ValueError:
        raise element.damaged("a time that is none") from None
