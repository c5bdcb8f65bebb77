"""The command line, one module per command group."""

from __future__ import annotations

import gc
import sys

_GC_THRESHOLD = 50_000
"""New objects before Python's cyclic garbage collector runs: imports alone make many thousands."""


def main() -> None:
    """Run the program `imagetool`."""
    gc.set_threshold(_GC_THRESHOLD)
    try:
        from imagetool.cli.app import run
    except KeyboardInterrupt:
        sys.exit(130)
    run()
