"""An NTFS volume: its master file table, paths, and what its flags say.

Read is what is there: the journal is not replayed, so a dirty or hibernated volume is read as it
lies, and its warnings say so. Reparse points are never followed.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from imagetool.disk.pieces import read_pieces
from imagetool.disk.source import Source
from imagetool.errors import Corrupt, NotFound
from imagetool.filesystem.ntfs import index
from imagetool.filesystem.ntfs import structs as s
from imagetool.filesystem.ntfs.data import Data
from imagetool.filesystem.ntfs.node import NtfsNode
from imagetool.filesystem.ntfs.record import Attribute, Record, fixed_up

_DAMAGED = "The volume is damaged: let the guest check it (chkdsk), or restore the image."
_BLOCKS_KEPT = 2048
_DEEPEST_TREE = 32
_LARGEST_LIST = 1 << 20  # bytes of an attribute list; Windows stops at 256 KiB


class Want(NamedTuple):
    """A block with fix-ups that a walk needs next: of which data, where, and what it must be."""

    data: Data
    owner: int
    offset: int
    length: int
    signature: bytes


class _Listing(NamedTuple):
    """What stays the same while a directory is listed."""

    owner: int
    allocation: Data | None
    prefix: str
    where: str
    seen: set[int]


Walk = Generator[Want, bytes, NtfsNode | None]


class Ntfs:
    """An NTFS volume in a source. Raises Corrupt where its boot sector or table make no sense."""

    kind = "NTFS"

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name = source.name
        boot = source.read_at(0, 512)
        if len(boot) < 512 or boot[3:11] != b"NTFS    ":
            raise Corrupt(f"{source.name}: no NTFS boot sector", hint=_DAMAGED)
        fields = s.BootSector.parse(boot)
        per_cluster = fields.sectors_per_cluster
        sectors = per_cluster if per_cluster <= 128 else 1 << min(256 - per_cluster, 32)
        self.cluster_size: int = fields.bytes_per_sector * sectors
        self.record_size = self._size(fields.record_size)
        self.index_block_size = self._size(fields.index_block_size)
        for what, size, least, most in (
            ("sector", fields.bytes_per_sector, 256, 4096),
            ("cluster", self.cluster_size, 256, 2 << 20),
            ("record", self.record_size, 512, 65536),
            ("index block", self.index_block_size, 512, 65536),
        ):
            if size & (size - 1) or not least <= size <= most:
                raise Corrupt(f"{source.name}: a {what} of {size} bytes", hint=_DAMAGED)
        self.identifier = fields.serial_number[::-1].hex()
        self._blocks: dict[tuple[int, int], bytes] = {}
        self._directories: dict[str, Record] = {}
        self._mft = self._open_table(fields.mft_cluster * self.cluster_size)

    def _size(self, exponent: int) -> int:
        """A size in clusters, or where negative, a power of two in bytes."""
        return exponent * self.cluster_size if exponent >= 0 else 1 << min(-exponent, 32)

    def _open_table(self, offset: int) -> Data:
        where = f"{self.name}: record 0"
        raw = self.source.read_at(offset, self.record_size)
        record = Record(0, fixed_up(raw.ljust(512, b"\0"), b"FILE", where), where)
        data = [item for item in record.attributes() if item.type == s.DATA and not item.name]
        if not data or data[0].resident:
            raise Corrupt(f"{where} holds no data", hint=_DAMAGED)
        listed = any(item.type == s.ATTRIBUTE_LIST for item in record.attributes())
        if not listed:
            return Data(self.source, self.cluster_size, data, f"{self.name}: $MFT")
        # A table in very many pieces: its first run list leads to the records of the others.
        data[0].initialised = min(
            data[0].initialised, (data[0].last_cluster + 1) * self.cluster_size
        )
        self._mft = Data(self.source, self.cluster_size, data, f"{self.name}: $MFT")
        extents = self.extents(record, s.DATA, "")
        extents[0].initialised = extents[0].size
        return Data(self.source, self.cluster_size, extents, f"{self.name}: $MFT")

    # Blocks and records

    def _fetch(self, wants: Sequence[Want]) -> list[bytes]:
        """The blocks, fixed up; those that are not at hand are read in one batch."""
        keys = [(want.owner, want.offset) for want in wants]
        if len(wants) == 1:  # one path, one block: the common case, without lists
            block = self._blocks.get(keys[0])
            if block is None:
                want = wants[0]
                block = self._keep(keys[0], want, want.data.read_at(want.offset, want.length))
            return [block]
        fresh = {
            key: want for key, want in zip(keys, wants, strict=True) if key not in self._blocks
        }
        if fresh:
            pieces = [want.data.pieces(want.offset, want.length) for want in fresh.values()]
            for (key, want), block in zip(
                fresh.items(), read_pieces(self.source, pieces), strict=True
            ):
                self._keep(key, want, block)
        return [self._blocks[key] for key in keys]

    def _keep(self, key: tuple[int, int], want: Want, block: bytes) -> bytes:
        """A block that was read: checked, fixed up and kept."""
        if len(block) != want.length:
            raise Corrupt(f"{want.data.name}: nothing at offset {want.offset}", hint=_DAMAGED)
        what = "record" if want.owner < 0 else "index block"
        where = f"{want.data.name}: {what} at offset {want.offset}"
        fixed = self._blocks[key] = fixed_up(block, want.signature, where)
        return fixed

    def _want_record(self, number: int) -> Want:
        return Want(self._mft, -1, number * self.record_size, self.record_size, b"FILE")

    def _record(self, number: int, data: bytes) -> Record:
        return Record(number, data, f"{self.name}: record {number}")

    def records(self, numbers: Sequence[int]) -> list[Record]:
        """Records of the master file table, read in one batch."""
        blocks = self._fetch([self._want_record(number) for number in numbers])
        return [self._record(*item) for item in zip(numbers, blocks, strict=True)]

    def extents(self, record: Record, kind: int, name: str) -> list[Attribute]:
        """The attribute of that type and name, in as many extents as it has, in their order."""
        own = record.of_type(s.ATTRIBUTE_LIST)
        if not own:
            return [item for item in record.of_type(kind) if item.name == name]
        found = [
            item
            for item in self._listed(record, own[0])
            if item.type == kind and item.name.upper() == name.upper()
        ]
        return sorted(found, key=lambda item: item.first_cluster)

    def _listed(self, record: Record, listing: Attribute) -> list[Attribute]:
        where = f"{self.name}: record {record.number}"
        if listing.size > _LARGEST_LIST:
            raise Corrupt(f"{where}: an attribute list of {listing.size} bytes", hint=_DAMAGED)
        data = listing.value
        if not listing.resident:
            source = Data(self.source, self.cluster_size, [listing], f"{where}: attribute list")
            data = source.read_at(0, source.size)
        wanted: list[tuple[int, int]] = []
        offset = 0
        while offset + 26 <= len(data):
            _, length = struct.unpack_from("<IH", data, offset)
            reference, identifier = struct.unpack_from("<QH", data, offset + 16)
            if length < 26:
                raise Corrupt(f"{where}: a damaged attribute list", hint=_DAMAGED)
            wanted.append((reference & 0xFFFFFFFFFFFF, identifier))
            offset += length
        numbers = sorted({number for number, _ in wanted} - {record.number})
        others = {other.number: other for other in self.records(numbers)} | {record.number: record}
        for number in numbers:
            if others[number].base != record.number:
                raise Corrupt(f"{where}: record {number} belongs to another file", hint=_DAMAGED)
        return [
            item
            for number, identifier in wanted
            for item in others[number].attributes()
            if item.identifier == identifier
        ]

    # Paths

    def find(self, path: str) -> NtfsNode | None:
        """The node at `path` (/ or \\, any case), or None."""
        return self.find_many([path])[0]

    def lookup(self, path: str) -> NtfsNode:
        """The node at `path`. Raises NotFound."""
        node = self.find(path)
        if node is None:
            raise NotFound(
                f"{self.name}: there is no file {_clean(path)}",
                hint="`imagetool file list` shows what is there.",
            )
        return node

    def find_many(self, paths: Sequence[str]) -> list[NtfsNode | None]:
        """The nodes at several paths; what the walks need next is read in one batch."""
        found: list[NtfsNode | None] = [None] * len(paths)
        active: list[tuple[int, Walk, Want]] = []
        for place, path in enumerate(paths):
            walk = self._walk(_clean(path))
            try:
                active.append((place, walk, next(walk)))
            except StopIteration as stop:
                found[place] = stop.value
        while active:
            blocks = self._fetch([want for _, _, want in active])
            going: list[tuple[int, Walk, Want]] = []
            for (place, walk, _), block in zip(active, blocks, strict=True):
                try:
                    going.append((place, walk, walk.send(block)))
                except StopIteration as stop:
                    found[place] = stop.value
            active = going
        return found

    def _walk(self, path: str) -> Walk:
        """From the root along the names of `path`: asks for blocks, ends with the node.

        Directories that were passed before are not looked for again.
        """
        names = path.split("\\") if path else []
        upper = path.upper().split("\\")
        depth = len(names) - 1
        while depth > 0 and "\\".join(upper[:depth]) not in self._directories:
            depth -= 1
        if depth > 0:
            record = self._directories["\\".join(upper[:depth])]
        else:
            depth = 0
            record = self._record(s.ROOT, (yield self._want_record(s.ROOT)))
        for place, name in enumerate(names[depth:], depth):
            if not record.is_directory:
                return None
            if place > depth:
                if len(self._directories) >= _BLOCKS_KEPT:
                    self._directories.clear()
                self._directories["\\".join(upper[:place])] = record
            reference = yield from self._search(record, name)
            if reference is None:
                return None
            number, sequence = reference
            record = self._record(number, (yield self._want_record(number)))
            if not record.in_use or (sequence and record.sequence != sequence):
                raise Corrupt(
                    f"{self.name}: the directory entry of {name} leads to record {number}, which "
                    "belongs to another file or none",
                    hint=_DAMAGED,
                )
        return NtfsNode(self, record, path)

    def _search(
        self, directory: Record, name: str
    ) -> Generator[Want, bytes, tuple[int, int] | None]:
        """The record and sequence number of a name in a directory, by its index tree."""
        where = f"{self.name}: record {directory.number}"
        node, header = self._index_root(directory), 16
        allocation: Data | None = None
        seen: set[int] = set()
        while True:
            result, offset, length = index.search(node, header, name, self._upcase, where)
            if result == 0:
                return index.reference_of(node, offset)
            if result == 2:
                return None
            cluster = index.subnode_of(node, offset, length)
            if cluster in seen or len(seen) > _DEEPEST_TREE:
                raise Corrupt(f"{where}: its index leads back to itself", hint=_DAMAGED)
            seen.add(cluster)
            if allocation is None:
                allocation = self._allocation(directory)
            want = self._want_index(allocation, directory.number, cluster)
            node, header = (yield want), 24
            self._check_index(node, cluster, where)

    def _index_root(self, directory: Record) -> bytes:
        roots = self.extents(directory, s.INDEX_ROOT, "$I30")
        if not roots or not roots[0].resident or roots[0].size < 32:
            raise Corrupt(
                f"{self.name}: record {directory.number} is a directory without an index",
                hint=_DAMAGED,
            )
        return roots[0].value

    def _allocation(self, directory: Record) -> Data:
        extents = self.extents(directory, s.INDEX_ALLOCATION, "$I30")
        name = f"{self.name}: index of record {directory.number}"
        if not extents or extents[0].resident:
            raise Corrupt(f"{name}: it has no blocks", hint=_DAMAGED)
        return Data(self.source, self.cluster_size, extents, name)

    def _want_index(self, allocation: Data, owner: int, cluster: int) -> Want:
        size = self.index_block_size
        unit = self.cluster_size if self.cluster_size <= size else 512
        return Want(allocation, owner, cluster * unit, size, b"INDX")

    def _check_index(self, node: bytes, cluster: int, where: str) -> None:
        if int.from_bytes(node[16:24], "little") != cluster:
            raise Corrupt(f"{where}: an index block that belongs elsewhere", hint=_DAMAGED)

    def _upcase(self) -> bytes:
        return self._upcase_table

    @cached_property
    def _upcase_table(self) -> bytes:
        record = self.records([s.UPCASE])[0]
        table = NtfsNode(self, record, "$UpCase").open()
        data = table.read_at(0, 131072)
        if len(data) != 131072:
            raise Corrupt(f"{self.name}: $UpCase holds {len(data)} bytes", hint=_DAMAGED)
        return data

    def list_directory(self, directory: Record, prefix: str = "") -> Iterator[index.IndexEntry]:
        """The entries of a directory in the order of its index, without their short twins.

        With a prefix only names that begin with it, in any case: only the branches of the index
        that can hold them are read.
        """
        where = f"{self.name}: record {directory.number}"
        root = self._index_root(directory)
        large = any(i.type == s.INDEX_ALLOCATION for i in self.all_attributes(directory))
        allocation = self._allocation(directory) if large else None
        listing = _Listing(directory.number, allocation, prefix, where, set())
        for entry in self._list_node(root, 16, listing):
            if entry.record >= s.FIRST_USER_RECORD:
                yield entry

    def _list_node(self, node: bytes, header: int, listing: _Listing) -> Iterator[index.IndexEntry]:
        entries = []
        for offset, length, flags in index.entries_of(node, header, listing.where):
            order = 0
            if listing.prefix:
                order = 1
                if not flags & s.IS_LAST:
                    start = index.name_of(node, offset)[: len(listing.prefix)]
                    order = index.compare(start, listing.prefix, self._upcase)
            # What lies below an entry comes before it: nothing that fits if the entry itself does.
            if order >= 0:
                entries.append((offset, length, flags, order))
            if order > 0:
                break
        below = [
            index.subnode_of(node, offset, length)
            for offset, length, flags, _ in entries
            if flags & s.HAS_SUBNODE
        ]
        seen, allocation = listing.seen, listing.allocation
        if below and (allocation is None or seen & set(below) or len(set(below)) != len(below)):
            raise Corrupt(f"{listing.where}: its index leads back to itself", hint=_DAMAGED)
        seen.update(below)
        blocks: dict[int, bytes] = {}
        if below and allocation is not None:
            wants = [self._want_index(allocation, listing.owner, cluster) for cluster in below]
            blocks = dict(zip(below, self._fetch(wants), strict=True))
        for offset, length, flags, order in entries:
            if flags & s.HAS_SUBNODE:
                cluster = index.subnode_of(node, offset, length)
                self._check_index(blocks[cluster], cluster, listing.where)
                yield from self._list_node(blocks[cluster], 24, listing)
            if not order and not flags & s.IS_LAST and not index.is_dos_name(node, offset):
                yield index.read_entry(node, offset)

    def all_attributes(self, record: Record) -> list[Attribute]:
        """The attributes of a file, wherever they lie."""
        own = record.attributes()
        listing = next((item for item in own if item.type == s.ATTRIBUTE_LIST), None)
        return own if listing is None else self._listed(record, listing)

    # What the volume says of itself

    @cached_property
    def _volume_record(self) -> Record:
        return self.records([s.VOLUME])[0]

    def _volume_attribute(self, kind: int) -> bytes:
        found = [item.value for item in self._volume_record.attributes() if item.type == kind]
        return found[0] if found else b""

    @property
    def label(self) -> str:
        """The volume's name."""
        return self._volume_attribute(s.VOLUME_NAME).decode("utf-16-le", "replace")

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Whether the volume is dirty or hibernated."""
        found = []
        if self._volume_attribute(s.VOLUME_INFORMATION)[10:11] and (
            self._volume_attribute(s.VOLUME_INFORMATION)[10] & 1
        ):
            found.append("the volume is marked dirty: the guest will check it at its next start")
        hibernation = self.find("hiberfil.sys")
        if hibernation is not None and hibernation.open().read_at(0, 4).lower() == b"hibr":
            found.append("the volume is hibernated: its files are not in their last state")
        return tuple(found)


def _clean(path: str) -> str:
    return "\\".join(filter(None, path.replace("/", "\\").split("\\")))
