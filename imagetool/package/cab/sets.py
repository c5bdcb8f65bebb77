"""Sets of cabinets: the other parts lie beside the one that was named, under their own names.

A cabinet chooses these names, so only a file name is taken from it, never a path.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from imagetool.disk.local_files import FileSource
from imagetool.errors import CannotOpen, Corrupt
from imagetool.package.cab.cabinet import Cabinet

_MOST_PARTS = 256

Keep = Callable[[FileSource], object]


def join_set(cabinet: Cabinet, folder: Path, keep: Keep) -> None:
    """Join the cabinets of the set that lie in `folder`; `keep` takes each file that is opened.

    A part that is missing is no error: what lies in it cannot be read. Raises Corrupt for a part
    of another set.
    """
    before = _parts(cabinet, folder, keep, forward=False)
    after = _parts(cabinet, folder, keep, forward=True)
    if before or after:
        cabinet.join(before[::-1], after)


def _parts(cabinet: Cabinet, folder: Path, keep: Keep, *, forward: bool) -> list[Cabinet]:
    found: list[Cabinet] = []
    here, step = cabinet, 1 if forward else -1
    while name := (here.following if forward else here.previous):
        plain = name.replace("\\", "/").rpartition("/")[2]
        path = folder / plain
        if not plain or len(found) >= _MOST_PARTS or not path.is_file():
            return found
        try:
            source = FileSource(path)
        except CannotOpen:
            return found
        keep(source)
        part = Cabinet(source)
        if (part.set_id, part.number) != (here.set_id, here.number + step):
            raise Corrupt(
                f"{path}: this cabinet is not part {here.number + step + 1} of the set that "
                f"{cabinet.name} belongs to",
                hint="Put the cabinets of one set into a directory of their own.",
            )
        found.append(part)
        here = part
    return found
