"""Trees of the results of `registry`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagetool.report.data import Document, Tree, builds

if TYPE_CHECKING:
    from imagetool.registry.listing import KeyListing, RegistryValue


@builds("registry.listing.RegistryValue")
def _registry_value(result: RegistryValue) -> Document:
    names = ("key", "name", "type", "data", "last_written", "warnings")
    return Document("registry-get", {name: getattr(result, name) for name in names})


@builds("registry.listing.KeyListing")
def _key_listing(result: KeyListing) -> Document:
    tree: Tree = {
        "key": result.key,
        "last_written": result.last_written,
        "subkeys": [
            {"name": item.name, "last_written": item.last_written} for item in result.subkeys
        ],
        "values": [
            {"name": item.name, "type": item.type, "data": item.data} for item in result.values
        ],
        "warnings": result.warnings,
    }
    return Document("registry-list", tree)
