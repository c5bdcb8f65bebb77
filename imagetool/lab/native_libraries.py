"""Foreign libraries, loaded into a process of its own and nowhere else."""

from __future__ import annotations

import ctypes as c
import ctypes.util
from collections.abc import Sequence

NativeFunction = tuple[str, object, tuple[object, ...]]
"""Name, type of the result, types of the arguments."""


def load_library(
    name: str, soname: str, package: str, functions: Sequence[NativeFunction]
) -> c.CDLL:
    """The library of that name, or by its file's name; its functions get their types.

    Ends the process with a sentence where it is not installed; `package` is Debian's.
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
