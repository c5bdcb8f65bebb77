"""The text in which LVM2 describes a volume group: nested sections, numbers, texts, lists.

LVM2 source, doc and lib/config; J. Metz, "Logical Volume Manager (LVM) format specification".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from imagetool.errors import Corrupt

Section = dict[str, "Value"]
Value = int | str | list["Value"] | Section

_DEEPEST = 16
_TOKEN = re.compile(
    r"""\s*(?:\#[^\n]*\n\s*)*(?:
        (?P<text>"(?:[^"\\]|\\.)*") | (?P<mark>[={}\[\],]) | (?P<word>[^\s={}\[\],"\#]+)
    )""",
    re.VERBOSE,
)


def parse(text: str, where: str) -> Section:
    """The sections of a text. Raises Corrupt, naming `where`."""
    tokens = list(_tokens(text, where))
    section, place = _section(tokens, 0, 0, where)
    if place != len(tokens):
        raise _damaged(where, "its text does not end where it should")
    return section


def _damaged(where: str, what: str) -> Corrupt:
    return Corrupt(
        f"{where}: {what}", hint="The volume group is damaged: restore it with vgcfgrestore."
    )


def _tokens(text: str, where: str) -> Iterator[str]:
    place, end = 0, len(text.rstrip())
    while place < end:
        found = _TOKEN.match(text, place)
        if found is None:
            if not re.sub(r"#[^\n]*", "", text[place:]).strip():
                return
            raise _damaged(where, f"its text makes no sense at character {place}")
        yield found["text"] or found["mark"] or found["word"]
        place = found.end()


def _section(tokens: list[str], place: int, depth: int, where: str) -> tuple[Section, int]:
    found: Section = {}
    if depth > _DEEPEST:
        raise _damaged(where, "its sections are nested too deeply")
    while place < len(tokens) and tokens[place] != "}":
        name = tokens[place]
        mark = tokens[place + 1] if place + 1 < len(tokens) else ""
        if mark == "{":
            found[name], place = _section(tokens, place + 2, depth + 1, where)
            if place >= len(tokens):
                raise _damaged(where, f"the section {name} has no end")
            place += 1
        elif mark == "=":
            found[name], place = _value(tokens, place + 2, where)
        else:
            raise _damaged(where, f"{name} is neither a section nor a value")
    return found, place


def _value(tokens: list[str], place: int, where: str) -> tuple[Value, int]:
    word = tokens[place] if place < len(tokens) else ""
    if word != "[":
        return _scalar(word, where), place + 1
    listed: list[Value] = []
    place += 1
    while place < len(tokens) and tokens[place] != "]":
        if tokens[place] != ",":
            listed.append(_scalar(tokens[place], where))
        place += 1
    if place >= len(tokens):
        raise _damaged(where, "a list has no end")
    return listed, place + 1


def _scalar(word: str, where: str) -> Value:
    if word.startswith('"'):
        return re.sub(r"\\(.)", r"\1", word[1:-1])
    if re.fullmatch(r"-?[0-9]{1,20}", word):
        return int(word)
    if not word or word in "={}[],":
        raise _damaged(where, "a value is missing")
    return word
