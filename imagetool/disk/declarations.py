"""The parts of construct that declarations use, imported without asking Windows for its name.

When construct is imported it calls `platform.system()`, which on Windows asks WMI (Python 3.12 and
later): ten seconds where WMI may not be asked, and some sessions wait for ever (cpython#112278).
So this module alone imports it, and `platform.system` answers from `sys.platform` meanwhile.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SYSTEM_NAMES = {"win32": "Windows", "darwin": "Darwin", "linux": "Linux"}


@contextmanager
def _platform_system_without_wmi() -> Iterator[None]:
    """Answer `platform.system()` from `sys.platform`; a system of another name is asked as ever.

    Runs once a process, under this module's import lock. Other threads that call
    `platform.system()` meanwhile get the same answer as before and after.
    """
    system = platform.system
    name = _SYSTEM_NAMES.get(sys.platform)
    if name is not None:
        platform.system = lambda: name
    try:
        yield
    finally:
        platform.system = system


with _platform_system_without_wmi():
    from construct import (
        Bytes,
        Const,
        ConstError,
        Construct,
        ConstructError,
        FormatField,
        Int8sl,
        Int8ub,
        Int8ul,
        Int16ub,
        Int16ul,
        Int32ub,
        Int32ul,
        Int64ub,
        Int64ul,
        Padded,
        Padding,
        StreamError,
        Struct,
    )

__all__ = [
    "Bytes",
    "Const",
    "ConstError",
    "Construct",
    "ConstructError",
    "FormatField",
    "Int8sl",
    "Int8ub",
    "Int8ul",
    "Int16ub",
    "Int16ul",
    "Int32ub",
    "Int32ul",
    "Int64ub",
    "Int64ul",
    "Padded",
    "Padding",
    "StreamError",
    "Struct",
]
