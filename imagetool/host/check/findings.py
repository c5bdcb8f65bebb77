"""Findings of a check of a host."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

UNKNOWN = "not known here"
"""The text for a fact that only Windows has, on another system."""


class State(StrEnum):
    """The result of a finding."""

    OK = "ok"
    NOTE = "note"
    """Something is not known, or some commands will not work."""
    FAILED = "failed"
    """Reading or servicing needs it, and it is missing."""


@dataclass(frozen=True, slots=True)
class HostFinding:
    """One fact about a host: its stable name, result, value (`found`), and advice."""

    name: str
    state: State
    found: str
    advice: str = ""
