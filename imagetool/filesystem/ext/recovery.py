"""Recovery of an ext volume that was not unmounted cleanly: its journal is replayed in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagetool.contracts import Source
from imagetool.disk.extents import ExtentMap
from imagetool.errors import Corrupt, Encrypted, Unsupported
from imagetool.filesystem.ext.blocks import BlockMapData
from imagetool.filesystem.ext.journal import Journal
from imagetool.filesystem.ext.replayed_source import ReplayedSource

if TYPE_CHECKING:
    from imagetool.filesystem.ext.volume import Ext


@dataclass(frozen=True, slots=True)
class Recovery:
    """What became of a journal: the volume with its blocks, what was done, and what is missing."""

    source: Source | None = None
    done: str = ""
    missing: str = ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the warnings of the volume."""
        found: tuple[str, ...] = ()
        if self.done:
            found += (f"the volume was not unmounted cleanly; {self.done}",)
        if self.missing:
            found += (f"the journal holds writes that are not in place: {self.missing}",)
        return found


def recover(volume: Ext, journal_inode: int) -> Recovery:
    """Replay the journal in that inode of a volume; 0 stands for one on another device."""
    if not journal_inode:
        return Recovery(missing="it lies on another device, and the volume is read as it lies")
    try:
        data = volume.open_data(volume.read_inodes([journal_inode])[0], "its journal")
        if not isinstance(data, ExtentMap | BlockMapData):
            raise volume.damaged("its journal lies in an inode")
        journal = Journal(data, volume.block_size)
        if journal.is_empty:
            return Recovery(done="its journal holds nothing that is not in place")
        size = max(volume.source.size, volume.block_count * volume.block_size)
        found = journal.replay(size // volume.block_size)
    except (Corrupt, Unsupported, Encrypted) as error:
        return Recovery(missing=f"the volume is read as it lies ({error.message})")
    done = "its journal was replayed in memory"
    done += f", up to transaction {(found.transactions.end - 1) & 0xFFFFFFFF}"
    if found.transactions.torn:
        done += "; the checksum of the next one is wrong, so it was left out"
    missing = "fast commits, which are not replayed" if found.has_fast_commits else ""
    source = ReplayedSource(volume.source, volume.block_size, found.offsets, found.escaped)
    return Recovery(source, done, missing)
