"""JSON documents: stable keys, versions as strings, sizes in bytes, times in RFC 3339 UTC."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from imagetool.package import Identity, Version
from imagetool.report.data import Document


def render(document: Document) -> str:
    """Return the tree behind its schema; non-ASCII text is escaped, lone surrogates too."""
    schema = {"schema": f"imagetool/{document.command}/1"}
    return json.dumps(_json_value({**schema, **document.tree}), indent=2) + "\n"


def _json_value(value: object) -> object:
    """Convert a value to what the json module accepts."""
    if isinstance(value, Version | Identity):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    return value
