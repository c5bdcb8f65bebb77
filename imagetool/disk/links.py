"""Links: symbolic ones, and the junctions that Windows has beside them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_JUNCTION_TAG = 0xA0000003
"""IO_REPARSE_TAG_MOUNT_POINT ([MS-FSCC] 2.1.2.1), of junctions and of mounted volumes."""


def is_link(path: Path | os.DirEntry[str]) -> bool:
    """True for a symbolic link or a junction; False for what is not there."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return False
    return is_link_state(found)


def is_link_state(state: os.stat_result) -> bool:
    """As is_link, of what os.lstat has found."""
    return stat.S_ISLNK(state.st_mode) or getattr(state, "st_reparse_tag", 0) == _JUNCTION_TAG
