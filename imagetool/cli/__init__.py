"""What a person types: one file a command group."""

from __future__ import annotations

import gc
import sys

_GC_THRESHOLD = 50_000
"""How many new objects make Python look for unused circles: imports alone make many thousands."""


def main() -> None:
    """The program `imagetool`."""
    gc.set_threshold(_GC_THRESHOLD)
    try:
        from imagetool.cli.app import run
    except KeyboardInterrupt:
        sys.exit(130)
    run()
