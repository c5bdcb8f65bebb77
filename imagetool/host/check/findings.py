"""A fact about a host, and how it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

UNKNOWN = "not known here"
"""What only Windows knows, on an emulated host."""


class State(StrEnum):
    """How a fact is."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing: something is not known, or some commands will not work."""
    FAILED = "failed"
    """Reading or servicing needs it, and it is not there."""


@dataclass(frozen=True, slots=True)
class HostFinding:
    """A fact: its stable name, how it is, what was found, and what to do."""

    name: str
    state: State
    found: str
    advice: str = ""
