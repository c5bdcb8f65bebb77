"""Rock Ridge: POSIX names, links and relocated directories in the records of ISO 9660.

Sources: System Use Sharing Protocol 1.12 (SUSP), sections 5.1 to 5.3; Rock Ridge Interchange
Protocol 1.12 (RRIP), sections 4.1.1 to 4.1.5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from imagetool.contracts import Source
from imagetool.disk.source import read_exactly
from imagetool.package.disc.side import SECTOR, damaged

_MAX_AREAS = 64
_CONTINUES, _CURRENT, _PARENT, _ROOT = 1, 2, 4, 8
_FILE_TYPE, _REGULAR, _DIRECTORY, _LINK = 0o170000, 0o100000, 0o040000, 0o120000


class Posix(NamedTuple):
    """What a record says by Rock Ridge."""

    name: str | None
    target: str | None
    """Where a symbolic link leads."""
    child: int | None
    """The block of the directory that was moved away from here."""
    is_moved: bool
    """True for a directory that is shown elsewhere, not here."""
    refusal: str
    """Why the bytes of the file are not its content; empty if they are."""


def read_skipped_length(area: bytes) -> int | None:
    """Return the length before each system use area; None where the disc has no Rock Ridge.

    `area` is that of the root directory's own record (SUSP 5.3).
    """
    if len(area) < 7 or area[:2] != b"SP" or area[4:6] != b"\xbe\xef":
        return None
    return area[6]


def read_posix(source: Source, area: bytes, block_size: int) -> Posix:
    """Read the entries of a system use area. Raises Corrupt, BudgetSpent."""
    name, target, child, is_moved, refusal = b"", _Target(), None, False, ""
    for signature, data in _entries(source, area, block_size):
        if signature == b"NM" and len(data) > 0:
            name += data[1:]
        elif signature == b"SL" and len(data) > 0:
            target.add(data[1:], source.name)
        elif signature == b"CL" and len(data) >= 4:
            child = int.from_bytes(data[:4], "little")
        elif signature == b"RE":
            is_moved = True
        elif signature == b"ZF":
            refusal = "its bytes are compressed by zisofs, which is not read"
        elif signature == b"PX" and len(data) >= 4:
            kind = int.from_bytes(data[:4], "little") & _FILE_TYPE
            if kind not in (0, _REGULAR, _DIRECTORY, _LINK):
                refusal = "this is a device, a pipe or a socket"
    return Posix(
        name.decode("utf-8", "surrogateescape") if name else None,
        target.path,
        child,
        is_moved,
        refusal,
    )


def _entries(source: Source, area: bytes, block_size: int) -> Iterator[tuple[bytes, bytes]]:
    """Go through the entries of an area and of its continuations (SUSP 4.1, 5.1)."""
    for _ in range(_MAX_AREAS):
        continuation = None
        while len(area) >= 4:
            length = area[2]
            if area[:2] == b"ST" or area[0] == 0:
                break
            if length < 4 or length > len(area):
                raise damaged(source.name, f"a system use entry of {length} bytes")
            source.budget.spend(source.name, 1)
            if area[:2] == b"CE" and length >= 28:
                block, offset, size = struct.unpack_from("<I4xI4xI", area, 4)
                continuation = block * block_size + offset, size
            else:
                yield area[:2], area[4:length]
            area = area[length:]
        if continuation is None:
            return
        offset, size = continuation
        if size > SECTOR:
            raise damaged(source.name, f"a system use area of {size} bytes")
        area = read_exactly(source, offset, size, "a system use area")
    raise damaged(source.name, f"a system use area of more than {_MAX_AREAS} parts")


class _Target:
    """The path of a symbolic link, whose components come in several entries (RRIP 4.1.3)."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._continues = False
        self._is_link = False

    def add(self, data: bytes, disc: str) -> None:
        self._is_link = True
        while data:
            if len(data) < 2 or len(data) < 2 + data[1]:
                raise damaged(disc, "the path of a symbolic link ends early")
            flags, text, data = data[0], data[2 : 2 + data[1]], data[2 + data[1] :]
            if flags & _ROOT:
                self._parts = [b""]
            else:
                text = b"." if flags & _CURRENT else b".." if flags & _PARENT else text
                if self._continues:
                    self._parts[-1] += text
                else:
                    self._parts.append(text)
            self._continues = bool(flags & _CONTINUES)

    @property
    def path(self) -> str | None:
        if not self._is_link:
            return None
        path = b"/".join(self._parts) or b"/"
        return path.decode("utf-8", "surrogateescape")
