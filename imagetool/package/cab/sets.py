"""Cabinet sets: the other cabinets are expected in the directory of the first one opened.

Their names are read from a cabinet, so only the file name is used, never a path; and in any case of
letters, as Windows finds them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from imagetool.disk.local_files import FileSource
from imagetool.errors import CannotOpen, Corrupt
from imagetool.package.cab.cabinet import Cabinet

_MAX_CABINETS = 256

EnterContext = Callable[[FileSource], object]


def join_set(cabinet: Cabinet, folder: Path, enter_context: EnterContext) -> None:
    """Join the cabinets of the set that are in `folder`; `enter_context` takes each opened file.

    A missing cabinet is no error: its files cannot be read. Raises Corrupt for a cabinet of another
    set.
    """
    before = _parts(cabinet, folder, enter_context, forward=False)
    after = _parts(cabinet, folder, enter_context, forward=True)
    if before or after:
        cabinet.join(before[::-1], after)


def _find(folder: Path, name: str) -> Path | None:
    """Find a file by its exact name, else by the only one that differs in case of letters."""
    if not name:
        return None
    if os.path.isfile(folder / name):  # noqa: PTH113  # the name is the cabinet's
        return folder / name
    try:
        with os.scandir(folder) as entries:
            same = [entry.name for entry in entries if entry.name.lower() == name.lower()]
    except (OSError, ValueError):
        return None
    path = folder / same[0] if len(same) == 1 else None
    return path if path is not None and path.is_file() else None


def _parts(
    cabinet: Cabinet, folder: Path, enter_context: EnterContext, *, forward: bool
) -> list[Cabinet]:
    found: list[Cabinet] = []
    current, step = cabinet, 1 if forward else -1
    while name := (current.next_cabinet if forward else current.previous_cabinet):
        plain = name.replace("\\", "/").rpartition("/")[2]
        path = _find(folder, plain)
        if path is None or len(found) >= _MAX_CABINETS:
            return found
        try:
            source = FileSource(path)
        except CannotOpen:
            return found
        enter_context(source)
        part = Cabinet(source)
        if (part.set_id, part.number) != (current.set_id, current.number + step):
            raise Corrupt(
                f"{path}: this cabinet is not part {current.number + step + 1} of the set that "
                f"{cabinet.name} belongs to",
                hint="Put the cabinets of one set into a directory of their own.",
            )
        found.append(part)
        current = part
    return found
