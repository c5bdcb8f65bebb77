"""JSON documents: stable keys, versions as strings, sizes in bytes, times in RFC 3339 UTC."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from imagetool.package import Identity, Version


def json_value(value: object) -> object:
    """Convert a value to what the json module accepts."""
    if isinstance(value, Version | Identity):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and not isinstance(value, Version):
        return [json_value(item) for item in value]
    return value


def json_document(command: str, content: dict[str, object]) -> str:
    """Return a JSON document with its schema; non-ASCII text is escaped, lone surrogates too."""
    schema: dict[str, object] = {"schema": f"imagetool/{command}/1"}
    return json.dumps(json_value(schema | content), indent=2) + "\n"
