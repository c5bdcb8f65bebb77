"""Which user."""
from __future__ import annotations
from dataclasses import dataclass, field

@dataclass(frozen=True)
class Credentials:
    """Who."""
    user: str
    password: str | None = field(repr=False)
