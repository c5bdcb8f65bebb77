"""A value, and the list of a key, as data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from imagetool.contracts import Reportable
from imagetool.registry.cells import PAGE_SIZE
from imagetool.registry.keys import Key
from imagetool.registry.values import Value, ValueData


@dataclass(frozen=True, slots=True)
class RegistryValue(Reportable):
    """A value with its data, and the last write time of the key at `key`."""

    key: str
    name: str
    type: str
    """REG_SZ and so on, as Value.type_name."""
    data: ValueData
    last_written: datetime
    warnings: tuple[str, ...] = ()
    """Warnings about all that was read to find it."""


class SubkeyEntry(NamedTuple):
    """A subkey in a list."""

    name: str
    last_written: datetime


class ValueEntry(NamedTuple):
    """A value in a list; the default value has an empty name."""

    name: str
    type: str
    data: ValueData


@dataclass(frozen=True, slots=True)
class KeyListing(Reportable):
    """The subkeys and values of the key at `key`."""

    key: str
    last_written: datetime
    subkeys: tuple[SubkeyEntry, ...]
    values: tuple[ValueEntry, ...]
    warnings: tuple[str, ...] = ()
    """Warnings about all that was read to find it."""


def describe_value(
    key: Key, path: str, value: Value, warnings: tuple[str, ...] = ()
) -> RegistryValue:
    """Read the data of a value of `key`, whose path is `path`. Raises Corrupt."""
    data = value.data
    return RegistryValue(path, value.name, value.type_name, data, key.last_written, warnings)


def list_key(key: Key, path: str, warnings: tuple[str, ...] = ()) -> KeyListing:
    """List a key, whose path is `path`. Raises Corrupt."""
    with key.budget:
        subkeys, values = list(key.subkeys()), key.values()
        # Larger ones are charged where their cells are read.
        sizes = (value.size for value in values)
        key.budget.spend(path, 0, sum(size for size in sizes if size <= PAGE_SIZE))
        return _listing(key, path, subkeys, values, warnings)


def _listing(
    key: Key, path: str, subkeys: list[Key], values: list[Value], warnings: tuple[str, ...]
) -> KeyListing:
    return KeyListing(
        path,
        key.last_written,
        tuple(SubkeyEntry(item.name, item.last_written) for item in subkeys),
        tuple(ValueEntry(item.name, item.type_name, item.data) for item in values),
        warnings,
    )
