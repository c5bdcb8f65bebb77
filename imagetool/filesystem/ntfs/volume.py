"""An NTFS volume: its paths, its directories, and its state.

The journal is not replayed: a dirty or hibernated volume is read as it is on disk, and its warnings
say so. Reparse points are never followed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

from imagetool.contracts import Source
from imagetool.disk.lazy import lazy
from imagetool.errors import Corrupt, NotFound
from imagetool.filesystem.ntfs import index
from imagetool.filesystem.ntfs import structs as s
from imagetool.filesystem.ntfs.data import NonResidentData
from imagetool.filesystem.ntfs.mft import MAX_CACHED_BLOCKS, BlockRequest, MasterFileTable
from imagetool.filesystem.ntfs.node import NtfsNode
from imagetool.filesystem.ntfs.record import FileRecord
from imagetool.filesystem.volume import truncation_warnings

_DAMAGED = "The volume is damaged: let the guest check it (chkdsk), or restore the image."
_MAX_INDEX_DEPTH = 32
_MAX_CACHED_INDEXES = 256


class _Listing(NamedTuple):
    """The arguments of a listing that are the same for all nodes of the index."""

    owner: int
    allocation: NonResidentData | None
    prefix: str
    where: str
    seen: set[int]


PathWalk = Generator[BlockRequest, bytes, NtfsNode | None]
"""Yields the block that it needs next, is sent its bytes, and returns the node."""


class Ntfs(MasterFileTable):
    """An NTFS volume in a source. Raises Corrupt where its boot sector or table is damaged."""

    file_system = "NTFS"
    separators = "\\/"
    needs_replay = False

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._directory_cache: dict[str, FileRecord] = {}
        self._roots: dict[int, bytes] = {}
        self._allocations: dict[int, NonResidentData] = {}

    # Paths

    def find(self, path: str) -> NtfsNode | None:
        """The node at `path` (/ or \\, any case), or None."""
        return self.find_many([path])[0]

    def lookup(self, path: str) -> NtfsNode:
        """The node at `path`. Raises NotFound."""
        node = self.find(path)
        if node is None:
            raise NotFound(
                f"{self.name}: there is no file {_normalise_path(path)}",
                hint="`imagetool file list` shows what is there.",
            )
        return node

    def find_many(self, paths: Sequence[str]) -> list[NtfsNode | None]:
        """The nodes at several paths; the walks go in step, one batch of reads a step."""
        found: list[NtfsNode | None] = [None] * len(paths)
        active: list[tuple[int, PathWalk, BlockRequest]] = []
        for position, path in enumerate(paths):
            walk = self._walk_path(_normalise_path(path))
            try:
                active.append((position, walk, next(walk)))
            except StopIteration as stop:
                found[position] = stop.value
        while active:
            blocks = self.read_blocks([request for _, _, request in active])
            going: list[tuple[int, PathWalk, BlockRequest]] = []
            for (position, walk, _), block in zip(active, blocks, strict=True):
                try:
                    going.append((position, walk, walk.send(block)))
                except StopIteration as stop:
                    found[position] = stop.value
            active = going
        return found

    def _walk_path(self, path: str) -> PathWalk:
        """Walk from the root, or the deepest cached directory, along the names of `path`."""
        names = path.split("\\") if path else []
        depth = len(names) - 1
        while depth > 0 and "\\".join(names[:depth]) not in self._directory_cache:
            depth -= 1
        if depth > 0:
            record = self._directory_cache["\\".join(names[:depth])]
        else:
            depth = 0
            record = self.parse_record(s.ROOT, (yield self.record_request(s.ROOT)))
        for position, name in enumerate(names[depth:], depth):
            if not record.is_directory:
                return None
            if position > depth:
                if len(self._directory_cache) >= MAX_CACHED_BLOCKS:
                    self._directory_cache.clear()
                self._directory_cache["\\".join(names[:position])] = record
            reference = yield from self._search_directory(record, name)
            if reference is None:
                return None
            number, sequence = reference
            record = self.parse_record(number, (yield self.record_request(number)))
            if not record.in_use or (sequence and record.sequence != sequence):
                raise Corrupt(
                    f"{self.name}: the directory entry of {name} leads to record {number}, which "
                    "belongs to another file or none",
                    hint=_DAMAGED,
                )
        return NtfsNode(self, record, path)

    def _search_directory(
        self, directory: FileRecord, name: str
    ) -> Generator[BlockRequest, bytes, tuple[int, int] | None]:
        """The record and sequence number of a name in a directory, by its index tree."""
        where = f"{self.name}: record {directory.number}"
        node, header_offset = self._index_root(directory), 16
        allocation: NonResidentData | None = None
        seen: set[int] = set()
        while True:
            result, offset, length = index.search(node, header_offset, name, self.upcase, where)
            if result == index.EXACT:
                return index.entry_reference(node, offset)
            if result == index.OTHER_CASE:
                return self._best_match(directory, name, node, header_offset, offset, length)
            if result == index.NONE:
                return None
            cluster = index.entry_subnode(node, offset, length)
            if cluster in seen or len(seen) > _MAX_INDEX_DEPTH:
                raise Corrupt(f"{where}: its index leads back to itself", hint=_DAMAGED)
            seen.add(cluster)
            if allocation is None:
                allocation = self._index_allocation(directory)
            request = self._index_block_request(allocation, directory.number, cluster)
            node, header_offset = (yield request), 24
            self._check_index_block(node, cluster, where)

    def _best_match(
        self,
        directory: FileRecord,
        name: str,
        node: bytes,
        header_offset: int,
        offset: int,
        length: int,
    ) -> tuple[int, int]:
        """The file of that very name, else the first whose name differs in case alone.

        The entry at `offset` is such a one. Others lie beside it in its node, for no entry on the
        way down was one; or below, where it has a node below it.
        """
        where = f"{self.name}: record {directory.number}"
        same: list[tuple[str, int, int]] = []
        entries = index.iter_entries(node, header_offset, where)
        if any(flags & s.HAS_SUBNODE for *_, flags in entries):
            same = [
                (entry.name, entry.record_number, entry.sequence)
                for entry in self._list_entries(directory, name)
            ]
        else:
            same = [
                (index.entry_name(node, start), *index.entry_reference(node, start))
                for start, _, flags in index.iter_entries(node, header_offset, where)
                if not flags & s.IS_LAST
            ]
        exact = next((item for item in same if item[0] == name), None)
        return index.entry_reference(node, offset) if exact is None else exact[1:]

    def _index_root(self, directory: FileRecord) -> bytes:
        known = self._roots.get(directory.number)
        if known is not None:
            return known
        roots = self.attribute_extents(directory, s.INDEX_ROOT, "$I30")
        if not roots or not roots[0].resident or roots[0].size < 32:
            raise Corrupt(
                f"{self.name}: record {directory.number} is a directory without an index",
                hint=_DAMAGED,
            )
        if len(self._roots) >= _MAX_CACHED_INDEXES:
            self._roots.clear()
        self._roots[directory.number] = root = roots[0].value
        return root

    def _index_allocation(self, directory: FileRecord) -> NonResidentData:
        known = self._allocations.get(directory.number)
        if known is not None:
            return known
        extents = self.attribute_extents(directory, s.INDEX_ALLOCATION, "$I30")
        name = f"{self.name}: index of record {directory.number}"
        if not extents or extents[0].resident:
            raise Corrupt(f"{name}: it has no blocks", hint=_DAMAGED)
        if len(self._allocations) >= _MAX_CACHED_INDEXES:
            self._allocations.clear()
        found = NonResidentData(self.source, self.cluster_size, extents, name)
        self._allocations[directory.number] = found
        return found

    def _index_block_request(
        self, allocation: NonResidentData, owner: int, cluster: int
    ) -> BlockRequest:
        size = self.index_block_size
        unit = self.cluster_size if self.cluster_size <= size else 512
        return BlockRequest(allocation, owner, cluster * unit, size, b"INDX")

    def _check_index_block(self, node: bytes, cluster: int, where: str) -> None:
        if int.from_bytes(node[16:24], "little") != cluster:
            raise Corrupt(f"{where}: an index block that belongs elsewhere", hint=_DAMAGED)

    def list_directory(self, directory: FileRecord, prefix: str = "") -> Iterator[index.IndexEntry]:
        """The entries of a directory in the order of its index, without short (8.3) names.

        With a prefix only names that begin with it, in any case: only the branches of the index
        that can hold them are read.
        """
        for entry in self._list_entries(directory, prefix):
            if entry.record_number >= s.FIRST_USER_RECORD:
                yield entry

    def _list_entries(self, directory: FileRecord, prefix: str) -> Iterator[index.IndexEntry]:
        where = f"{self.name}: record {directory.number}"
        root = self._index_root(directory)
        large = directory.number in self._allocations or any(
            item.type == s.INDEX_ALLOCATION for item in self.all_attributes(directory)
        )
        allocation = self._index_allocation(directory) if large else None
        listing = _Listing(directory.number, allocation, prefix, where, set())
        yield from self._list_node(root, 16, listing, 0)

    def _list_node(
        self, node: bytes, header_offset: int, listing: _Listing, depth: int
    ) -> Iterator[index.IndexEntry]:
        if depth > _MAX_INDEX_DEPTH:
            raise Corrupt(f"{listing.where}: its index is too deep", hint=_DAMAGED)
        entries = []
        for offset, length, flags in index.iter_entries(node, header_offset, listing.where):
            order = 0
            if listing.prefix:
                order = 1
                if not flags & s.IS_LAST:
                    start = index.entry_name(node, offset)[: len(listing.prefix)]
                    order = index.compare_names(start, listing.prefix, self.upcase)
            # Names in the node below an entry sort before it: none can fit where order < 0.
            if order >= 0:
                entries.append((offset, length, flags, order))
            if order > 0:
                break
        self.source.budget.spend(self.name, len(entries))
        below = [
            index.entry_subnode(node, offset, length)
            for offset, length, flags, _ in entries
            if flags & s.HAS_SUBNODE
        ]
        seen, allocation = listing.seen, listing.allocation
        if below and (allocation is None or seen & set(below) or len(set(below)) != len(below)):
            raise Corrupt(f"{listing.where}: its index leads back to itself", hint=_DAMAGED)
        seen.update(below)
        blocks: dict[int, bytes] = {}
        if below and allocation is not None:
            requests = [
                self._index_block_request(allocation, listing.owner, cluster) for cluster in below
            ]
            blocks = dict(zip(below, self.read_blocks(requests), strict=True))
        for offset, length, flags, order in entries:
            if flags & s.HAS_SUBNODE:
                cluster = index.entry_subnode(node, offset, length)
                self._check_index_block(blocks[cluster], cluster, listing.where)
                yield from self._list_node(blocks[cluster], 24, listing, depth + 1)
            if not order and not flags & s.IS_LAST and not index.is_dos_name(node, offset):
                yield index.read_entry(node, offset)

    # State

    @lazy
    def _volume_record(self) -> FileRecord:
        return self.read_records([s.VOLUME])[0]

    def _volume_attribute(self, attribute_type: int) -> bytes:
        found = [
            item.value for item in self._volume_record.attributes() if item.type == attribute_type
        ]
        return found[0] if found else b""

    @lazy
    def warnings(self) -> tuple[str, ...]:
        """Sentences for a volume that is truncated, dirty or hibernated."""
        found = [*truncation_warnings(self.source, self.stated_size)]
        if self._volume_attribute(s.VOLUME_INFORMATION)[10:11] and (
            self._volume_attribute(s.VOLUME_INFORMATION)[10] & 1
        ):
            found.append("the volume is marked dirty: the guest will check it at its next start")
        hibernation = self.find("hiberfil.sys")
        if hibernation is not None and hibernation.open().read_at(0, 4).lower() == b"hibr":
            found.append("the volume is hibernated: its files are not in their last state")
        return tuple(found)


def _normalise_path(path: str) -> str:
    return "\\".join(filter(None, path.replace("/", "\\").split("\\")))
