"""Registry hives, versions 1.3 to 1.6: the base block and access to the keys.

A dirty hive (its sequence numbers differ: the last write did not finish) is read with its
transaction logs replayed in memory; without a usable log it is read as it is, with a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from imagetool.contracts import Source
from imagetool.disk.filetime import from_filetime
from imagetool.disk.source import read_exactly
from imagetool.errors import Corrupt, NotRecognised, Unsupported
from imagetool.registry.cells import Cells
from imagetool.registry.keys import Key
from imagetool.registry.structs import BASE_BLOCK_SIZE, BaseBlock, checksum, is_valid_base_block

_RESTORE = "Restore the hive from a backup, or start the guest to let Windows repair it."


OpenLogs = Callable[[], Sequence[Source]]
"""Returns the transaction logs of a hive (LOG1, LOG2, or LOG). Called only for a dirty hive."""


class Hive:
    """A registry hive in a source: `Hive(source).key(r"Microsoft\\Virtual Machine\\Auto")`.

    Raises NotRecognised if the source is no hive, Corrupt if its base block is damaged and no log
    restores it, Unsupported for a version other than 1.3 to 1.6.
    """

    def __init__(self, source: Source, open_logs: OpenLogs = tuple) -> None:
        self.name = source.name
        head = source.read_at(0, 512)
        sound = is_valid_base_block(head)
        if not sound and head[:4] != b"regf":
            raise NotRecognised(
                f"{source.name}: this is no registry hive (it does not begin with 'regf')",
                hint="Name a hive file such as Windows\\System32\\config\\SOFTWARE.",
            )
        if len(head) < 512:
            read_exactly(source, 0, 512, "the base block")
        warnings: list[str] = []
        self.dirty = not sound or head[4:8] != head[8:12]
        """True if the last write to the hive did not finish."""
        if self.dirty:
            from imagetool.registry.logs import recover

            recovered = recover(source, head, open_logs())
            if recovered is not None:
                source, head = recovered.source, recovered.base_block
                warnings.append(
                    "the hive is dirty; its transaction logs were replayed in memory, up to "
                    f"sequence number {recovered.sequence}"
                )
            elif sound:
                warnings.append("the hive is dirty, and not recovered: it has no usable log")
            else:
                raise Corrupt(
                    f"{source.name}: the base block's checksum is "
                    f"0x{int.from_bytes(head[508:], 'little'):08x}, its bytes give "
                    f"0x{checksum(head):08x} (offset 508), and no transaction log restores it",
                    hint=_RESTORE,
                )
        self.warnings = tuple(warnings)
        """Warnings about a dirty hive, each one sentence."""
        base = BaseBlock.parse(head)
        if base.major != 1 or not 3 <= base.minor <= 6:
            raise Unsupported(
                f"{source.name}: hives of version {base.major}.{base.minor} are not read",
                hint="Versions 1.3 to 1.6 are, which is what Windows NT 4.0 and later write.",
            )
        self.version: tuple[int, int] = (base.major, base.minor)
        self.sequence: int = base.secondary_sequence
        self.last_written: datetime = from_filetime(base.last_written)
        # A hive may be longer than its bins, never shorter: cells beyond the end are refused.
        end = min(base.bins_size, max(0, source.size - BASE_BLOCK_SIZE))
        self._cells = Cells(source, end, has_big_data=base.minor >= 4)
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
        """The key at `path` below the root, or None."""
        return self.root.find(path)

    def key(self, path: str) -> Key:
        """The key at `path`. Raises NotFound if there is none."""
        return self.root.require(path)
