"""The JSON Schemas (2020-12) of the documents, one file each, with what they share in common.json.

They are the published contract: open for fields that come later, and every field that a document of
this version has is declared. `load_schema` gives one that stands alone.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from imagetool.errors import WrongUsage

Schema = dict[str, Any]

_SHARED = "common"
_SHARED_PREFIX = f"{_SHARED}.json#/$defs/"


def schema_names() -> tuple[str, ...]:
    """The names of all documents: verify, package-check and so on."""
    found = (item.name for item in files(__name__).iterdir())
    return tuple(
        sorted(
            name.removesuffix(".json")
            for name in found
            if name.endswith(".json") and name != f"{_SHARED}.json"
        )
    )


def load_schema(name: str) -> Schema:
    """Return the schema of a document with the shared definitions that it uses in its `$defs`.

    `name` may be written as in a document: imagetool/verify/1. Raises WrongUsage.
    """
    short = name.removeprefix("imagetool/").removesuffix("/1")
    if short not in schema_names():
        known = ", ".join(schema_names())
        raise WrongUsage(f"there is no schema {name!r}", hint=f"Name one of {known}.")
    shared = _read(_SHARED)["$defs"]
    definitions: Schema = {}
    schema = _bundle(_read(short), shared, definitions)
    assert isinstance(schema, dict)
    return {**schema, "$defs": dict(sorted(definitions.items()))} if definitions else schema


def format_schema(name: str) -> str:
    """Return a schema as JSON text. Raises WrongUsage."""
    return json.dumps(load_schema(name), indent=2) + "\n"


def list_schemas() -> str:
    """Return a line for each document: its name and what it is about."""
    names = schema_names()
    width = max(map(len, names))
    return "".join(f"{name:{width}}  {_read(name)['description']}\n" for name in names)


def _read(name: str) -> Schema:
    tree: Schema = json.loads(files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8"))
    return tree


def _bundle(node: object, shared: Schema, definitions: Schema) -> object:
    """Turn references to the shared file into local ones, and collect what they refer to."""
    if isinstance(node, list):
        return [_bundle(item, shared, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    if isinstance(reference, str) and reference.startswith(_SHARED_PREFIX):
        name = reference.removeprefix(_SHARED_PREFIX)
        if name not in definitions:
            definitions[name] = {}  # a definition may refer to itself
            definitions[name] = _bundle(shared[name], shared, definitions)
        node = {**node, "$ref": f"#/$defs/{name}"}
    return {key: _bundle(item, shared, definitions) for key, item in node.items()}
