"""A hive: its base block checked, its keys read on demand.

Versions 1.3 to 1.6. A hive whose last write did not finish (the sequence numbers differ) is
refused by name: replaying its transaction logs in memory comes later.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import datetime

from imagetool.disk.source import Source, read_exactly
from imagetool.errors import Corrupt, NotRecognised, Unsupported
from imagetool.registry.cells import Cells
from imagetool.registry.keys import Key, filetime
from imagetool.registry.structs import BASE_BLOCK_SIZE, BaseBlock

_RESTORE = "Restore the hive from a backup, or start the guest to let Windows repair it."


class Hive:
    """A registry hive in a source: `Hive(source).key(r"Microsoft\\Virtual Machine\\Auto")`.

    Raises NotRecognised where the source is no hive, Corrupt where its base block contradicts
    itself, Unsupported for another version and, until logs are replayed, for a dirty hive.
    """

    def __init__(self, source: Source, logs: Sequence[Source] = ()) -> None:
        self.name = source.name
        self.logs = tuple(logs)
        head = source.read_at(0, 512)
        if head[:4] != b"regf":
            raise NotRecognised(
                f"{source.name}: this is no registry hive (it does not begin with 'regf')",
                hint="Name a hive file such as Windows\\System32\\config\\SOFTWARE.",
            )
        if len(head) < 512:
            read_exactly(source, 0, 512, "the base block")
        base = BaseBlock.parse(head)
        if base.checksum != _checksum(head):
            raise Corrupt(
                f"{source.name}: the base block's checksum is 0x{base.checksum:08x}, its bytes "
                f"give 0x{_checksum(head):08x} (offset 508)",
                hint=_RESTORE,
            )
        if base.major != 1 or not 3 <= base.minor <= 6:
            raise Unsupported(
                f"{source.name}: hives of version {base.major}.{base.minor} are not read",
                hint="Versions 1.3 to 1.6 are, which is what Windows NT 4.0 and later write.",
            )
        self.version: tuple[int, int] = (base.major, base.minor)
        self.sequence: int = base.secondary_sequence
        self.dirty: bool = base.primary_sequence != base.secondary_sequence
        self.last_written: datetime = filetime(base.last_written)
        if self.dirty:
            raise Unsupported(
                f"{source.name}: the hive is dirty (sequence numbers {base.primary_sequence} and "
                f"{base.secondary_sequence} differ): its last changes are in its transaction logs",
                hint="Start the guest and shut it down cleanly; replaying the logs comes later.",
            )
        # A hive may be longer than its bins, never shorter: cells beyond the end are refused.
        self._cells = Cells(source, min(base.bins_size, max(0, source.size - BASE_BLOCK_SIZE)))
        self._root_cell: int = base.root_cell
        self._root: Key | None = None

    @property
    def root(self) -> Key:
        """The root key, whose path is empty."""
        if self._root is None:
            cell = self._cells.cell(self._root_cell)
            self._root = Key(self._cells, self._root_cell, cell, None)
        return self._root

    def find(self, path: str) -> Key | None:
        """The key at `path`, counted from the root, or None."""
        return self.root.find(path)

    def key(self, path: str) -> Key:
        """The key at `path`. Raises NotFound where there is none."""
        return self.root.require(path)


def _checksum(head: bytes) -> int:
    """The exclusive or of the first 508 bytes as 32-bit words; never 0 or -1 (Suhanov)."""
    total = 0
    for word in struct.unpack_from("<127I", head):
        total ^= word
    return {0: 1, 0xFFFFFFFF: 0xFFFFFFFE}.get(total, total)
