"""Native libraries with ctypes, for processes that do nothing else."""

from __future__ import annotations

import ctypes as c
import ctypes.util
from collections.abc import Sequence

NativeFunction = tuple[str, object, tuple[object, ...]]
"""Name, type of the result, types of the arguments."""


def load_library(
    name: str, soname: str, package: str, functions: Sequence[NativeFunction]
) -> c.CDLL:
    """Load a library by its name, else by its soname, and declare the types of its functions.

    Raises SystemExit with a sentence where it is not installed; `package` is Debian's.
    """
    for candidate in (ctypes.util.find_library(name), soname):
        try:
            if candidate:
                library = c.CDLL(candidate, use_errno=True)
                break
        except OSError:
            continue
    else:
        raise SystemExit(f"lib{name} is not installed (Debian: {package})")
    for function, result, arguments in functions:
        entry = getattr(library, function)
        entry.restype, entry.argtypes = result, arguments
    return library
