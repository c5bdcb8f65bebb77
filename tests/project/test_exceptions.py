"""Every exception from a checker's rule says why it is one, on the same line."""

from __future__ import annotations

import re
import tokenize
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "imagetool"

EXCEPTION = re.compile(r"#\s*(noqa|type:\s*ignore)\b")
WITH_REASON = re.compile(r"# (noqa: [A-Z]+\d+(, [A-Z]+\d+)*|type: ignore\[[a-z, -]+\])  # \S.*")


def comments(path: Path) -> list[tuple[int, str]]:
    with tokenize.open(path) as file:
        tokens = tokenize.generate_tokens(file.readline)
        return [(item.start[0], item.string) for item in tokens if item.type == tokenize.COMMENT]


def test_every_exception_names_its_rule_and_its_reason() -> None:
    found = [
        (path, line, text)
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in comments(path)
        if EXCEPTION.match(text)
    ]
    bare = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path, line, text in found
        if not WITH_REASON.fullmatch(text)
    ]
    assert found
    assert not bare, "\n".join(bare)


@pytest.mark.parametrize(
    "text",
    ["# noqa", "# noqa: S105", "# noqa:S105  # why", "# type: ignore", "# type:ignore[misc]"],
)
def test_one_without_rule_or_reason_is_found(text: str) -> None:
    assert EXCEPTION.match(text)
    assert not WITH_REASON.fullmatch(text)
