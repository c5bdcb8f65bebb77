"""The shape of a disk file: its kind and sizes."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID


class Shape(NamedTuple):
    """What a new disk file is to be. Sizes in bytes."""

    kind: str
    """dynamic, fixed or differencing."""
    size: int
    block_size: int
    sector_size: int = 512
    physical_sector_size: int = 4096
    identifier: UUID | None = None
    """The identifier of the disk; None: a new one."""
