"""The trees of manifests, against those of Python's ElementTree."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetool.budget import Budget
from imagetool.errors import BudgetSpent, Corrupt
from imagetool.package.cbs import parse_component_manifest
from imagetool.package.manifest_xml import ManifestElement, parse_manifest

Tree = tuple[str, dict[str, str], str, list["Tree"]]  # type: ignore[misc]


def own_tree(element: ManifestElement) -> Tree:
    return element.name, element.attributes, element.text, [*map(own_tree, element.children)]


def other_tree(element: ElementTree.Element) -> Tree:
    attributes = {name.removeprefix("{"): value for name, value in element.attrib.items()}
    children = [other_tree(item) for item in element]
    return element.tag.rpartition("}")[2], attributes, element.text or "", children


TEXTS = st.text("ab é\u2028 <>&\"'\t\n]", max_size=6)
LEAVES = st.sampled_from(["<!-- c -->", "<?p i?>", "<![CDATA[<x>]]>", "&#65;", "&lt;", "text"])
NAMES = st.sampled_from(["a", "b", "n:c", "é"])


def escaped(text: str) -> str:
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(character, entity)
    return text


def element(name: str, attributes: dict[str, str], parts: list[str]) -> str:
    listed = "".join(f' {key}="{escaped(value)}"' for key, value in attributes.items())
    return f'<{name} xmlns:n="urn:n"{listed}>{"".join(parts)}</{name}>'


ELEMENTS: st.SearchStrategy[str] = st.recursive(
    LEAVES | TEXTS.map(escaped),
    lambda inner: st.builds(
        element, NAMES, st.dictionaries(NAMES, TEXTS, max_size=3), st.lists(inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ELEMENTS, max_size=4), st.sampled_from(["utf-8", "utf-16", "latin-1"]))
def test_a_tree_is_that_of_elementtree(parts: list[str], encoding: str) -> None:
    document = element("assembly", {"xmlns": "urn:schemas-microsoft-com:asm.v3"}, parts)
    data = f'<?xml version="1.0" encoding="{encoding}"?>{document}'.encode(
        encoding, "xmlcharrefreplace"
    )
    assert own_tree(parse_manifest(data, "x", Budget())) == other_tree(ElementTree.fromstring(data))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_elementtree_refuses_is_refused(data: st.DataObject) -> None:
    document = element("assembly", {"a": "b"}, data.draw(st.lists(ELEMENTS, max_size=3))).encode()
    start = data.draw(st.integers(0, len(document) - 1))
    end = data.draw(st.integers(start, min(start + 3, len(document))))
    changed = document[:start] + data.draw(st.binary(max_size=2)) + document[end:]
    try:
        expected = other_tree(ElementTree.fromstring(changed))
    except (ElementTree.ParseError, ValueError, LookupError):
        with pytest.raises(Corrupt, match="no sound XML"):
            parse_manifest(changed, "x", Budget())
        return
    if expected[0] == "assembly":
        assert own_tree(parse_manifest(changed, "x", Budget())) == expected


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<!DOCTYPE assembly><assembly/>", "a document type is declared"),
        (b'<!DOCTYPE a SYSTEM "http://127.0.0.1/a"><assembly/>', "a document type is declared"),
        (b"<assembly>" + b"<a>" * 64 + b"</a>" * 64 + b"</assembly>", "deeper"),
        (
            b"<assembly><a " + b" ".join(b'a%d=""' % n for n in range(200)) + b"/></assembly>",
            "more",
        ),
        (b'<?xml version="1.0" encoding="none"?><assembly/>', "unknown encoding"),
        (b" " * ((4 << 20) + 1), "a manifest of"),
        (b"<a/>", "describes no assembly"),
        (b"", "no element found"),
    ],
)
def test_what_no_manifest_is_like_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(Corrupt, match=words):
        parse_manifest(data, "x", Budget())


def test_elements_cost_of_the_budget() -> None:
    with pytest.raises(BudgetSpent):
        parse_manifest(b"<assembly>" + b"<a/>" * 300_000 + b"</assembly>", "x", Budget())


def test_the_greatest_text_is_read_in_time() -> None:
    text = b"x" * 4_000_000
    root = parse_manifest(b"<assembly>" + text + b"</assembly>", "x", Budget())
    assert len(root.text) == len(text)


@pytest.mark.parametrize("digest", ["AAAA=A", "é", "====", "A"])
def test_a_digest_that_is_no_base64_is_refused(digest: str) -> None:
    identity = '<assemblyIdentity name="n" version="1.2.3.4"/>'
    method = '<DigestMethod Algorithm="http://www.w3.org/2000/09/xmldsig#sha256"/>'
    file = f'<file name="f">{method}<DigestValue>{digest}</DigestValue></file>'
    with pytest.raises(Corrupt, match="no base64"):
        parse_component_manifest(f"<assembly>{identity}{file}</assembly>".encode(), "x", Budget())
