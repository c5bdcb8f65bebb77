"""Documents against their schemas, with every object closed: no field may be undeclared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from imagetool.report.schemas import load_schema


def closed(node: Any) -> Any:
    """A schema in which no object takes a property that is not declared."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: closed(item) for key, item in node.items()}
    if isinstance(node.get("properties"), dict) and "type" in node:
        found.setdefault("additionalProperties", False)
    return found


@cache
def closed_validator(name: str) -> Draft202012Validator:
    """The validator of a document's schema with all objects closed."""
    return Draft202012Validator(
        closed(load_schema(name)), format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def check_document(text: str) -> None:
    """Raise AssertionError where a document does not keep to its closed schema."""
    document = json.loads(text)
    for error in closed_validator(document["schema"]).iter_errors(document):
        details = [error, *sorted(error.context or (), key=lambda item: item.path, reverse=True)]
        raise AssertionError("\n".join(f"{item.json_path}: {item.message}" for item in details))


def declared_fields(schema: dict[str, Any]) -> set[str]:
    """The path of every field that a schema declares: images[].disk.size."""
    return {path for path, _ in _walk(schema, schema.get("$defs", {}), "")}


def written_fields(document: Any, path: str = "") -> Iterator[str]:
    """The path of every field of a document."""
    if isinstance(document, list):
        for item in document:
            yield from written_fields(item, f"{path}[]")
    elif isinstance(document, dict):
        for name, item in document.items():
            inner = f"{path}.{name}".lstrip(".")
            yield inner
            yield from written_fields(item, inner)


def _walk(node: Any, shared: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    if "$ref" in node:
        yield from _walk(shared[node["$ref"].removeprefix("#/$defs/")], shared, path)
    for choice in node.get("anyOf", ()):
        yield from _walk(choice, shared, path)
    if isinstance(node.get("items"), dict):
        yield from _walk(node["items"], shared, f"{path}[]")
    for name, item in node.get("properties", {}).items():
        inner = f"{path}.{name}".lstrip(".")
        yield inner, item
        yield from _walk(item, shared, inner)
