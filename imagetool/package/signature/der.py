"""DER, read strictly: one encoding of each value, every tag looked at, nothing left over.

ITU-T X.690, sections 8, 10 and 11. The whole structure is walked before anything is read of it, so
no number, identifier or length has room for more than its value. Whatever follows the last field of
a sequence is damage: no digest covers it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from imagetool.errors import Corrupt

_DAMAGED = "The signature is damaged: compare the package with its origin."
MAX_STRUCTURE_SIZE = 4 << 20
_MAX_ELEMENTS = 600_000
_MAX_DEPTH = 64

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, IDENTIFIER = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
ENUMERATED, SEQUENCE, SET, UTC_TIME, GENERALIZED_TIME = 0x0A, 0x30, 0x31, 0x17, 0x18
_STRINGS = frozenset({0x0C, 0x12, 0x13, 0x14, 0x16, 0x1A, 0x1B, 0x1C, 0x1E})
_PADDED_NUMBER = re.compile(rb"(?:\A|[\x00-\x7f])\x80")  # in an object identifier
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
        """Iterate over the elements in it; with `tags`, each has one of them. Raises Corrupt."""
        offset = self.contents_start
        while offset < self.end:
            item = _read(self.data, offset, self.end, self.where)
            if tags and item.tag not in tags:
                raise item.damaged("an element that does not belong here")
            yield item
            offset = item.end

    def fields(self) -> Fields:
        """Read the fields of a SEQUENCE one after the other. Raises Corrupt for another element."""
        if self.tag != SEQUENCE:
            raise self.damaged("an element that does not belong here")
        return Fields(self)

    def damaged(self, reason: str) -> Corrupt:
        """Make the error for a fault in it."""
        return _damaged(self.where, f"{reason} (offset {self.start})")


class Fields:
    """The fields of a sequence, taken in their order. Raises Corrupt for one that is missing."""

    def __init__(self, element: Element) -> None:
        self._element = element
        self._next: Element | None = None
        self._advance(element.contents_start)

    def take(self, *tags: int) -> Element:
        """Take the next field, which has one of these tags."""
        found = self._next
        if found is None or found.tag not in tags:
            raise self._element.damaged("a field of the signature is missing")
        self._advance(found.end)
        return found

    def optional(self, tag: int) -> Element | None:
        """Take the next field if it has this tag."""
        return self.take(tag) if self._next is not None and self._next.tag == tag else None

    def end(self) -> None:
        """Raise Corrupt if a field is left."""
        if self._next is not None:
            raise self._next.damaged("a field that the signature should not have")

    def _advance(self, start: int) -> None:
        whole = self._element
        rest = start < whole.end
        self._next = _read(whole.data, start, whole.end, whole.where) if rest else None


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
    _check(found)
    return found


def _check(whole: Element) -> None:
    """Check that an element, and all in it, is DER. Raises Corrupt."""
    data, where = whole.data, whole.where
    ends = [whole.end]
    at, count = whole.start, 0
    while at < whole.end:
        found = _read(data, at, ends[-1], where)
        count += 1
        if count > _MAX_ELEMENTS or len(ends) > _MAX_DEPTH:
            raise found.damaged("more elements, or deeper ones, than any signature has")
        at = found.end
        if found.tag in (SEQUENCE, SET) or found.tag & 0xE0 == 0xA0:
            at = found.contents_start
            ends.append(found.end)
        elif found.tag & 0xE0 != 0x80 and not _is_value(found.tag, found.contents):
            raise found.damaged("a value that is not in DER")
        while len(ends) > 1 and at == ends[-1]:
            ends.pop()


def _is_value(tag: int, contents: bytes) -> bool:
    """True if this is the one encoding of a value (X.690, 8.2 to 8.20, 11.1 to 11.8)."""
    if tag == BOOLEAN:
        return contents in (b"\0", b"\xff")
    if tag in (INTEGER, ENUMERATED):
        signs = contents[1:2] >= b"\x80"
        return contents[:1] != b"" and not (
            len(contents) > 1 and contents[0] == (0xFF if signs else 0)
        )
    if tag == BIT_STRING:
        unused = contents[0] if contents else 8
        return unused < 8 and (
            contents[-1] & (1 << unused) - 1 == 0 if contents[1:] else not unused
        )
    if tag == IDENTIFIER:
        return bool(contents) and contents[-1] < 0x80 and not _PADDED_NUMBER.search(contents)
    if tag == UTC_TIME:
        return _UTC_TIME.fullmatch(contents) is not None
    if tag == GENERALIZED_TIME:
        return _GENERALIZED_TIME.fullmatch(contents) is not None
    return tag == OCTET_STRING or tag in _STRINGS or (tag == NULL and not contents)


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
    return Element(data, where, data[start], start, contents_start, contents_start + length)


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
    if element.tag != INTEGER or len(element.contents) > 64:
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
