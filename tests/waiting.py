"""Waiting for what another thread or process does: for a condition, never for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_PAUSE = threading.Event()  # which nobody sets


def until(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    """True as soon as the condition holds; False where it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        _PAUSE.wait(0.02)
    return True
