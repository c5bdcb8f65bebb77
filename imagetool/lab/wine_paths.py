"""Paths of callers under Wine: its drives are directories of this machine.

A PowerShell for Windows that runs under Wine calls the emulated host by the paths that it sees
(`D:\\images\\t.vhdx`); the host works with those of this machine, and answers with the caller's.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from imagetool.lab.path_names import PathNames

_DRIVE = re.compile("[a-z]:")


def names_of_prefix(prefix: str, current: str) -> PathNames | None:
    """Return the names that directories have for a caller, by the drives of its prefix.

    `current` is the caller's current directory, as it calls it. None for no prefix with drives.
    """
    try:
        items = sorted(Path(prefix, "dosdevices").iterdir())
    except OSError:
        return None
    drives = [item for item in items if _DRIVE.fullmatch(item.name)]
    pairs = [(f"{item.name.upper()}\\", os.path.realpath(item)) for item in drives]
    return PathNames(pairs, current_name=current) if pairs else None
