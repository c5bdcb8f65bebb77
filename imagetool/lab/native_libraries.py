"""Native libraries with ctypes, for processes that do nothing else."""

from __future__ import annotations

import ctypes as c
import ctypes.util
import subprocess
import sys
from collections.abc import Sequence
from functools import cache

from imagetool.host.environment import child_environment

_WRITERS = {"ntfs-3g": "libntfs-3g.so.89", "hivex": "libhivex.so.0"}

NativeFunction = tuple[str, object, tuple[object, ...]]
"""Name, type of the result, types of the arguments."""


@cache
def writers_installed() -> bool:
    """True if the libraries with which the writers change images are there; loads none of them."""
    if all(ctypes.util.find_library(name) for name in _WRITERS):
        return True
    program = f"import ctypes; [ctypes.CDLL(name) for name in {list(_WRITERS.values())}]"
    command, env = [sys.executable, "-c", program], child_environment()
    done = subprocess.run(command, capture_output=True, env=env, check=False)
    return done.returncode == 0


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
