"""The XML of manifests, as trees of a size and depth that manifests have.

Without document types, so without entities, and without network. Expat is asked itself: what would
stand between takes longer to import than a manifest to parse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from xml.parsers.expat import ExpatError, ParserCreate

from imagetool.budget import Budget
from imagetool.errors import Corrupt

DAMAGED = "The package is damaged: compare it with its origin."
_MAX_MANIFEST_SIZE = 4 << 20  # expat makes a hundred bytes of each attribute of an element
_MAX_ATTRIBUTES = 100
_MAX_DEPTH = 64
_ELEMENTS_PER_BATCH = 100
_ELEMENTS_PER_OBJECT = 2
_TEXT_SIZE = 1 << 16
_NAMESPACE_END = "}"


class ManifestElement:
    """An element: its name without the namespace, its attributes, and what is in it."""

    __slots__ = ("attributes", "children", "name", "text")

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        self.attributes = attributes
        self.children: list[ManifestElement] = []
        self.text = ""
        """The text before the first element in it."""

    def get(self, name: str) -> str:
        """An attribute without a namespace; empty where there is none."""
        return self.attributes.get(name, "")

    def child(self, name: str) -> ManifestElement | None:
        """The first element of that name in it."""
        return next((item for item in self.children if item.name == name), None)

    def walk(self) -> Iterator[ManifestElement]:
        """This element and all below it, in the order of the document."""
        yield self
        for item in self.children:
            yield from item.walk()


def parse_manifest(data: bytes, name: str, budget: Budget) -> ManifestElement:
    """Parse a manifest; its root element. Raises Corrupt, BudgetSpent."""
    if len(data) > _MAX_MANIFEST_SIZE:
        raise Corrupt(f"{name}: a manifest of {len(data)} bytes", hint=DAMAGED)
    try:
        with budget:
            root = _parse(data, lambda count: budget.spend(name, count // _ELEMENTS_PER_OBJECT))
    except (ExpatError, ValueError, LookupError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Corrupt(f"{name}: the manifest is no sound XML: {reason}", hint=DAMAGED) from None
    if root.name != "assembly":
        raise Corrupt(f"{name}: the manifest describes no assembly", hint=DAMAGED)
    return root


def _parse(data: bytes, charge: Callable[[int], None]) -> ManifestElement:
    """The root element; `charge` is told how many there are.

    Raises ExpatError, ValueError, LookupError, and what `charge` raises.
    """
    document = ManifestElement("", {})
    open_elements = [document]
    count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if not count % _ELEMENTS_PER_BATCH:
            charge(_ELEMENTS_PER_BATCH)
        if len(open_elements) > _MAX_DEPTH or len(attributes) > _MAX_ATTRIBUTES:
            raise ValueError("more attributes, or deeper elements, than any manifest has")
        element = ManifestElement(name.rpartition(_NAMESPACE_END)[2], attributes)
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def end(name: str) -> None:
        open_elements.pop()

    def add_text(text: str) -> None:
        if not open_elements[-1].children:
            open_elements[-1].text += text

    def refuse(*declaration: object) -> None:
        raise ValueError("a document type is declared")

    parser = ParserCreate(namespace_separator=_NAMESPACE_END)
    parser.buffer_text = True
    parser.buffer_size = _TEXT_SIZE
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = add_text
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(data, True)
    return document.children[0]
