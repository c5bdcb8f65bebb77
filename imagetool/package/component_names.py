"""The name of a component's directory and manifest, which its identity decides.

The name ends with a hash over the attributes of the identity: the key of the component store.
Undocumented; learned from Microsoft's packages, every one of whose names it gives.
"""

from __future__ import annotations

from collections.abc import Mapping

_HASHED = (
    "name",
    "culture",
    "type",
    "version",
    "publicKeyToken",
    "processorArchitecture",
    "versionScope",
)
_LANGUAGES = {"": "none", "neutral": "none", "*": "none"}
_FACTOR, _STEP, _BITS = 0x1FFFFFFF7, 65599, 64
_MAX_LENGTH, _KEPT = 40, 19


def component_name(attributes: Mapping[str, str]) -> str:
    """Return the name for the attributes of an `assemblyIdentity`, in lower case."""
    language = attributes.get("language") or attributes.get("culture") or ""
    values = {**attributes, "culture": _LANGUAGES.get(language.lower(), language)}
    key = 0
    for kind in _HASHED:
        value = values.get(kind, "").lower()
        if value not in ("", "none"):
            key = (key + _hash(kind.lower())) * _FACTOR + _hash(value)
    name = values.get("name", "")
    if len(name) > _MAX_LENGTH:
        name = f"{name[:_KEPT]}..{name[-_KEPT:]}"
    parts = (
        values.get("processorArchitecture", ""),
        name,
        values.get("publicKeyToken", ""),
        values.get("version", ""),
        values["culture"],
        f"{key % (1 << _BITS):016x}",
    )
    return "_".join(parts).lower()


def _hash(text: str) -> int:
    """Hash every fourth character from the first to the fourth, and join the four hashes."""
    found = 0
    for first in range(4):
        one = 0
        for letter in text[first::4]:
            one = (one * _STEP + ord(letter)) % (1 << 32)
        found = found * _FACTOR + one
    return found
