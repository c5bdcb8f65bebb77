"""The metadata of an LVM2 volume group, a text: nested sections, integers, strings, lists.

LVM2 source, doc and lib/config; J. Metz, "Logical Volume Manager (LVM) format specification".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from imagetool.budget import Budget
from imagetool.errors import Corrupt

Section = dict[str, "Value"]
Value = int | str | list["Value"] | Section

_MAX_DEPTH = 16
_TOKENS_PER_BATCH = 1000
_TOKEN = re.compile(
    r"""\s*(?:\#[^\n]*\n\s*)*(?:
        (?P<text>"(?:[^"\\]|\\.)*") | (?P<mark>[={}\[\],]) | (?P<word>[^\s={}\[\],"\#]+)
    )""",
    re.VERBOSE,
)

_REST = re.compile(r"\s*(?:\#[^\n]*(?:\n\s*|$))*")


def parse_metadata(text: str, where: str, budget: Budget) -> Section:
    """Parse the text of a volume group. Raises Corrupt, naming `where`, and BudgetSpent."""
    tokens: list[str] = []
    unread = _tokens(text, where)
    while batch := list(islice(unread, _TOKENS_PER_BATCH)):
        budget.spend(where, len(batch))
        tokens += batch
    section, position = _section(tokens, 0, 0, where)
    if position != len(tokens):
        raise _damaged(where, "its text does not end where it should")
    return section


def _damaged(where: str, what: str) -> Corrupt:
    return Corrupt(
        f"{where}: {what}", hint="The volume group is damaged: restore it with vgcfgrestore."
    )


def _tokens(text: str, where: str) -> Iterator[str]:
    position, end = 0, len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None:
            if _REST.fullmatch(text, position):
                return
            raise _damaged(where, f"its text makes no sense at character {position}")
        yield found["text"] or found["mark"] or found["word"]
        position = found.end()


def _section(tokens: list[str], position: int, depth: int, where: str) -> tuple[Section, int]:
    found: Section = {}
    if depth > _MAX_DEPTH:
        raise _damaged(where, "its sections are nested too deeply")
    while position < len(tokens) and tokens[position] != "}":
        name = tokens[position]
        mark = tokens[position + 1] if position + 1 < len(tokens) else ""
        if mark == "{":
            found[name], position = _section(tokens, position + 2, depth + 1, where)
            if position >= len(tokens):
                raise _damaged(where, f"the section {name} has no end")
            position += 1
        elif mark == "=":
            found[name], position = _value(tokens, position + 2, where)
        else:
            raise _damaged(where, f"{name} is neither a section nor a value")
    return found, position


def _value(tokens: list[str], position: int, where: str) -> tuple[Value, int]:
    word = tokens[position] if position < len(tokens) else ""
    if word != "[":
        return _scalar(word, where), position + 1
    listed: list[Value] = []
    position += 1
    while position < len(tokens) and tokens[position] != "]":
        if tokens[position] != ",":
            listed.append(_scalar(tokens[position], where))
        position += 1
    if position >= len(tokens):
        raise _damaged(where, "a list has no end")
    return listed, position + 1


def _scalar(word: str, where: str) -> Value:
    if word.startswith('"'):
        return re.sub(r"\\(.)", r"\1", word[1:-1])
    if re.fullmatch(r"-?[0-9]{1,20}", word):
        return int(word)
    if not word or word in "={}[],":
        raise _damaged(where, "a value is missing")
    return word
