"""CLIXML, PowerShell's own form of objects ([MS-PSRP] 2.2.5), as far as frames need it.

`dumps` writes str, int, float, bool, None, bytes, datetime, UUID, lists and dictionaries. `loads`
reads everything that PowerShell's serializer writes; an object without a plain form here becomes
its ToString text. Raises HostFailed for malformed CLIXML.

What a document may grow to is bounded, for a host is not trusted: the number of its elements, and
the size of its values with every reference counted as all that it refers to.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID
from xml.sax.saxutils import escape, unescape

from imagetool.errors import HostFailed, WrongUsage

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element, TreeBuilder

Plain = object
_NAMESPACE = "http://schemas.microsoft.com/powershell/2004/04"
_HASHTABLE = "<TN RefId='0'><T>System.Collections.Hashtable</T><T>System.Object</T></TN>"
_ARRAY = "<TN RefId='1'><T>System.Object[]</T><T>System.Array</T><T>System.Object</T></TN>"
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]|_(?=[xX][0-9A-Fa-f]{4}_)")
_ESCAPED = re.compile("(?:_x[0-9A-Fa-f]{4}_)+")
_MAX_DEPTH = 24
_MAX_ELEMENTS = 400_000
_MAX_ELEMENT_DEPTH = 200
_MAX_VALUE_SIZE = 64 << 20
"""In characters, with _VALUE_SIZE for each value, and a reference as large as its object."""
_VALUE_SIZE = 64


class EnumText(str):
    """The name of an enumeration member, with its numeric value."""

    number: int

    def __new__(cls, name: str, number: int) -> EnumText:
        """Return the name as a str with the attribute `number`."""
        self = super().__new__(cls, name)
        self.number = number
        return self


def dumps(value: Plain) -> str:
    """Return the CLIXML document of a value. Raises WrongUsage for an unsupported type."""
    return f"<Objs Version='1.1.0.1' xmlns='{_NAMESPACE}'>{_element(value, '', 0)}</Objs>"


def _element(value: Plain, name: str, depth: int) -> str:
    if depth > _MAX_DEPTH:
        raise WrongUsage(f"a value of more than {_MAX_DEPTH} levels cannot be sent to a host")
    n = f" N='{name}'" if name else ""
    if value is None:
        return f"<Nil{n} />"
    if isinstance(value, bool):
        return f"<B{n}>{str(value).lower()}</B>"
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 64:
            raise WrongUsage("a number of more than 64 bits cannot be sent to a host")
        tag = "I32" if -(1 << 31) <= value < 1 << 31 else "I64" if value < 1 << 63 else "U64"
        return f"<{tag}{n}>{value}</{tag}>"
    if isinstance(value, float):
        text = {"inf": "INF", "-inf": "-INF", "nan": "NaN"}.get(repr(value), repr(value))
        return f"<Db{n}>{text}</Db>"
    if isinstance(value, str):
        return f"<S{n}>{_escape(value)}</S>"
    if isinstance(value, bytes):
        return f"<BA{n}>{base64.b64encode(value).decode('ascii')}</BA>"
    if isinstance(value, datetime):
        return f"<DT{n}>{value.astimezone(UTC).isoformat().replace('+00:00', 'Z')}</DT>"
    if isinstance(value, UUID):
        return f"<G{n}>{value}</G>"
    if isinstance(value, dict):
        entries = "".join(
            f"<En>{_element(key, 'Key', depth + 1)}{_element(item, 'Value', depth + 1)}</En>"
            for key, item in value.items()
        )
        return f"<Obj{n} RefId='0'>{_HASHTABLE}<DCT>{entries}</DCT></Obj>"
    if isinstance(value, list | tuple):
        items = "".join(_element(item, "", depth + 1) for item in value)
        return f"<Obj{n} RefId='0'>{_ARRAY}<LST>{items}</LST></Obj>"
    raise WrongUsage(f"a value of the type {type(value).__name__} cannot be sent to a host")


def _escape(text: str) -> str:
    def code(match: re.Match[str]) -> str:
        return f"_x{ord(match[0]):04X}_"

    return escape(_UNSAFE.sub(code, text))


def _unescape(text: str) -> str:
    """Decode _xHHHH_ escapes; a run of them is decoded as UTF-16, so surrogate pairs are joined."""

    def units(match: re.Match[str]) -> str:
        data = b"".join(
            int(match[0][start + 2 : start + 6], 16).to_bytes(2, "little")
            for start in range(0, len(match[0]), 7)
        )
        return data.decode("utf-16-le", "surrogatepass")

    return _ESCAPED.sub(units, text)


def loads(text: str) -> Plain:
    """Return the first value of a CLIXML document. Raises HostFailed."""
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser

    try:
        parser = DefusedXMLParser(target=_bounded_builder())
        parser.feed(text)
        root: Element = parser.close()
        return _Reader().value(root[0], 0)
    except (ParseError, DefusedXmlException, ValueError, IndexError, OverflowError) as error:
        raise HostFailed(
            f"the host answered with something that is no CLIXML ({error})",
            hint="Run with --debug and report it, with the host's PowerShell version.",
        ) from None


def _bounded_builder() -> TreeBuilder:
    from xml.etree.ElementTree import TreeBuilder

    class BoundedBuilder(TreeBuilder):
        """Builds a tree with as many elements, and as deep, as an answer may have."""

        depth = count = 0

        def start(self, tag: str, attrs: dict[str, str], /) -> Element:
            self.depth += 1
            self.count += 1
            if self.depth > _MAX_ELEMENT_DEPTH or self.count > _MAX_ELEMENTS:
                raise ValueError("more elements, or deeper ones, than an answer may have")
            return super().start(tag, attrs)

        def end(self, tag: str, /) -> Element:
            self.depth -= 1
            return super().end(tag)

    return BoundedBuilder()


_NUMBERS = {"I32", "I64", "U64", "U32", "I16", "U16", "By", "SB"}


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _time(text: str) -> datetime:
    # .NET writes seven decimal places of a second; datetime holds six.
    moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class _Reader:
    """Reads the values of one document, and counts how large they are."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Plain, int]] = {}
        """Objects by their RefId, with their sizes."""
        self._size = 0

    def value(self, element: Element, depth: int) -> Plain:
        """Return a value. Raises ValueError where it is malformed, too large or too deep."""
        tag, text = _tag(element), element.text or ""
        if depth > _MAX_DEPTH:
            raise ValueError("objects within objects without an end")
        self._charge(_VALUE_SIZE + len(text))
        if tag in _NUMBERS:
            return int(text)
        if tag == "Nil":
            return None
        if tag == "B":
            return text == "true"
        if tag in ("Db", "Sg", "D"):
            return float(text)
        if tag == "DT":
            return _time(text)
        if tag == "G":
            return UUID(text)
        if tag == "BA":
            return base64.b64decode(text)
        if tag == "C":
            return chr(int(text))
        if tag == "Ref":
            value, size = self._seen.get(element.get("RefId", ""), (None, 0))
            self._charge(size)
            return value
        if tag == "Obj":
            before = self._size
            value = self._object(element, depth)
            self._seen[element.get("RefId", "")] = value, self._size - before
            return value
        return _unescape(text)  # S, Version, URI, XD, SBK, TS …

    def _charge(self, size: int) -> None:
        self._size += size
        if self._size > _MAX_VALUE_SIZE:
            raise ValueError("larger values than an answer may have")

    def _object(self, element: Element, depth: int) -> Plain:
        parts = {_tag(part): part for part in element}
        if "DCT" in parts:
            pairs: dict[str, Plain] = {}
            for entry in parts["DCT"]:
                key, item = (self.value(part, depth + 1) for part in entry)
                if isinstance(key, list | dict):
                    raise ValueError("a key that is no text")
                pairs[str(key)] = item
            return pairs
        for name in ("LST", "IE", "QUE", "STK"):
            if name in parts:
                return [self.value(part, depth + 1) for part in parts[name]]
        properties: dict[str, Plain] = {}
        for name in ("Props", "MS"):
            for part in parts.get(name, ()):
                properties[_unescape(part.get("N", ""))] = self.value(part, depth + 1)
        number = next((int(part.text or 0) for part in element if _tag(part) in _NUMBERS), None)
        shown = parts.get("ToString")
        text = _unescape(shown.text or "") if shown is not None else ""
        if number is not None:
            return EnumText(text, number) if text else number
        plain = [part for part in element if _tag(part) in ("S", "Version", "G", "DT", "B")]
        if plain and not properties:
            return self.value(plain[0], depth + 1)
        return properties or text


_STDERR_RECORD = re.compile(r'<S S="(?:Error|Warning)">(.*?)</S>', re.DOTALL)
_ENTITIES = {"&quot;": '"', "&apos;": "'"}


def stderr_text(data: bytes) -> str:
    """Return PowerShell's standard error as text: CLIXML documents become their messages."""
    text = data.decode("utf-8", "replace")
    plain, *documents = text.split("#< CLIXML")
    said = [plain.strip()]
    for document in documents:
        parts = _STDERR_RECORD.findall(document)
        said.append(_unescape(unescape("".join(parts), _ENTITIES)).strip())
        said.append(document.rpartition("</Objs>")[2].strip() if "</Objs>" in document else "")
    return "\n".join(filter(None, said))
