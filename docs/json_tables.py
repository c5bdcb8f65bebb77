"""Write the tables of the JSON documents in commands.md from the schemas: `make docs`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imagetool.report.schemas import load_schema, schema_names

DOCUMENT = Path(__file__).with_name("commands.md")
BEGIN = "<!-- made from imagetool/report/schemas by docs/json_tables.py -->\n"
END = "<!-- end -->\n"


def tables() -> str:
    """A table for each document, and one for each object that several of them hold."""
    schemas = {name: load_schema(name) for name in schema_names()}
    shared: dict[str, Any] = {}
    for schema in schemas.values():
        shared |= schema.get("$defs", {})
    parts = [
        _table(f"`imagetool/{name}/1`: {schema['description']}", schema)
        for name, schema in schemas.items()
    ]
    parts += [
        _table(f"*{name}*: {schema['description']}", schema)
        for name, schema in sorted(shared.items())
        if "properties" in schema
    ]
    return "\n".join(parts)


def _table(title: str, schema: dict[str, Any]) -> str:
    rows = "".join(f"| {' | '.join(row)} |\n" for row in _rows(schema, ""))
    return f"{title}\n\n| field | type | meaning |\n|---|---|---|\n{rows}"


def _rows(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    for name, item in schema["properties"].items():
        if name == "schema" and not path:
            continue
        inner = f"{path}{name}"
        yield f"`{inner}`", _kind(item), item["description"]
        for node, suffix in ((item, "."), (item.get("items"), "[].")):
            for choice in _objects(node):
                yield from _rows(choice, inner + suffix)


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    """The objects that a field declares itself."""
    if isinstance(node, dict):
        if "properties" in node:
            yield node
        for choice in node.get("anyOf", ()):
            yield from _objects(choice)


def _kind(node: dict[str, Any]) -> str:
    """The type of a field in a few words."""
    if "$ref" in node:
        return f"*{node['$ref'].removeprefix('#/$defs/')}*"
    if "anyOf" in node:
        return " or ".join(map(_kind, node["anyOf"]))
    if "enum" in node or "const" in node:
        values = node.get("enum") or [node["const"]]
        return ", ".join(f'"{v}"' if isinstance(v, str) else str(v).lower() for v in values)
    types = node["type"] if isinstance(node["type"], list) else [node["type"]]
    if types[0] == "array" and isinstance(node.get("items"), dict):
        types = [f"list of {_kind(node['items'])}", *types[1:]]
    return " or ".join(types)


def with_tables(text: str) -> str:
    """The text of commands.md with its tables made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    written = with_tables(DOCUMENT.read_text(encoding="utf-8"))
    DOCUMENT.write_text(written, encoding="utf-8", newline="\n")
    sys.exit(0)
