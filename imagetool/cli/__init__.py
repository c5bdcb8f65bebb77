"""What a person types: one file a command group."""

from __future__ import annotations

import gc

_OBJECTS = 50_000
"""How many new objects make Python look for unused circles: imports alone make many thousands."""


def main() -> None:
    """The program `imagetool`."""
    gc.set_threshold(_OBJECTS)
    from imagetool.cli.app import run

    run()
