"""The master file table of an NTFS volume: file records, and attributes across several of them.

Linux-NTFS documentation, files $Boot and $MFT, attribute "$ATTRIBUTE_LIST". Blocks with fix-ups are
read in batches and cached, up to a bound.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from imagetool.contracts import Source
from imagetool.disk.extents import read_extent_data
from imagetool.disk.lazy import lazy
from imagetool.errors import Corrupt
from imagetool.filesystem.ntfs import structs as s
from imagetool.filesystem.ntfs.data import NonResidentData
from imagetool.filesystem.ntfs.index import compare_names
from imagetool.filesystem.ntfs.record import Attribute, FileRecord, apply_fixups

_DAMAGED = "The volume is damaged: let the guest check it (chkdsk), or restore the image."
MAX_CACHED_BLOCKS = 2048
"""Records and index blocks; then the cache starts afresh."""

_UPCASE_SIZE = 2 << 16
_MAX_ATTRIBUTE_LIST_SIZE = 1 << 20  # bytes of an attribute list; Windows stops at 256 KiB


class BlockRequest(NamedTuple):
    """A block with fix-ups to be read: a record, or an index block.

    `owner` is the number of the record whose index it belongs to, -1 for a record of the table.
    """

    data: NonResidentData
    owner: int
    offset: int
    length: int
    signature: bytes


class MasterFileTable:
    """The master file table. Raises Corrupt where the boot sector or the table is damaged."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name = source.name
        boot = source.read_at(0, 512)
        if len(boot) < 512 or boot[3:11] != b"NTFS    ":
            raise Corrupt(f"{source.name}: no NTFS boot sector", hint=_DAMAGED)
        fields = s.BootSector.parse(boot)
        # A copy of the boot sector follows the last sector of the volume.
        self.stated_size = (fields.total_sectors + 1) * fields.bytes_per_sector
        per_cluster = fields.sectors_per_cluster
        sectors = per_cluster if per_cluster <= 128 else 1 << min(256 - per_cluster, 32)
        self.cluster_size: int = fields.bytes_per_sector * sectors
        self.record_size = self._decode_size(fields.record_size)
        self.index_block_size = self._decode_size(fields.index_block_size)
        for what, size, least, most in (
            ("sector", fields.bytes_per_sector, 256, 4096),
            ("cluster", self.cluster_size, 256, 2 << 20),
            ("record", self.record_size, 512, 65536),
            ("index block", self.index_block_size, 512, 65536),
        ):
            if size & (size - 1) or not least <= size <= most:
                raise Corrupt(f"{source.name}: a {what} of {size} bytes", hint=_DAMAGED)
        self._blocks: dict[tuple[int, int], bytes] = {}
        self._mft = self._open_mft(fields.mft_cluster * self.cluster_size)

    def _decode_size(self, exponent: int) -> int:
        """A size in bytes, from a number of clusters, or the negative exponent of a power of 2."""
        return exponent * self.cluster_size if exponent >= 0 else 1 << min(-exponent, 32)

    def _open_mft(self, offset: int) -> NonResidentData:
        where = f"{self.name}: record 0"
        raw = self.source.read_at(offset, self.record_size)
        record = FileRecord(0, apply_fixups(raw.ljust(512, b"\0"), b"FILE", where), where)
        data = [item for item in record.attributes() if item.type == s.DATA and not item.name]
        if not data or data[0].resident:
            raise Corrupt(f"{where} holds no data", hint=_DAMAGED)
        listed = any(item.type == s.ATTRIBUTE_LIST for item in record.attributes())
        if not listed:
            return NonResidentData(self.source, self.cluster_size, data, f"{self.name}: $MFT")
        # A very fragmented table: its first run list leads to the records with the others.
        data[0].initialised_size = min(
            data[0].initialised_size, (data[0].last_vcn + 1) * self.cluster_size
        )
        self._mft = NonResidentData(self.source, self.cluster_size, data, f"{self.name}: $MFT")
        extents = self.attribute_extents(record, s.DATA, "")
        extents[0].initialised_size = extents[0].size
        return NonResidentData(self.source, self.cluster_size, extents, f"{self.name}: $MFT")

    # Blocks and records

    def read_blocks(self, requests: Sequence[BlockRequest]) -> list[bytes]:
        """The blocks, fix-ups applied; those that are not cached are read in one batch."""
        keys = [(request.owner, request.offset) for request in requests]
        if len(requests) == 1:  # one path, one block: the common case, without lists
            block = self._blocks.get(keys[0])
            if block is None:
                if len(self._blocks) >= MAX_CACHED_BLOCKS:
                    self._blocks.clear()
                request = requests[0]
                block = self._cache_block(
                    keys[0], request, request.data.read_at(request.offset, request.length)
                )
            return [block]
        if len(self._blocks) >= MAX_CACHED_BLOCKS:
            self._blocks.clear()
        # Taken now: another thread may clear the cache meanwhile.
        found = {key: self._blocks[key] for key in keys if key in self._blocks}
        fresh = {
            key: request for key, request in zip(keys, requests, strict=True) if key not in found
        }
        if fresh:
            extents = [
                request.data.extents_at(request.offset, request.length)
                for request in fresh.values()
            ]
            for (key, request), block in zip(
                fresh.items(), read_extent_data(self.source, extents), strict=True
            ):
                found[key] = self._cache_block(key, request, block)
        return [found[key] for key in keys]

    def _cache_block(self, key: tuple[int, int], request: BlockRequest, block: bytes) -> bytes:
        """Check a block that was read, apply its fix-ups, and cache it."""
        if len(block) != request.length:
            raise Corrupt(f"{request.data.name}: nothing at offset {request.offset}", hint=_DAMAGED)
        what = "record" if request.owner < 0 else "index block"
        where = f"{request.data.name}: {what} at offset {request.offset}"
        fixed = self._blocks[key] = apply_fixups(block, request.signature, where)
        return fixed

    def record_request(self, number: int) -> BlockRequest:
        """The request for the block of a record."""
        return BlockRequest(self._mft, -1, number * self.record_size, self.record_size, b"FILE")

    def parse_record(self, number: int, data: bytes) -> FileRecord:
        """The record in a block that was read."""
        return FileRecord(number, data, f"{self.name}: record {number}")

    def read_records(self, numbers: Sequence[int]) -> list[FileRecord]:
        """Records of the master file table, read in one batch."""
        blocks = self.read_blocks([self.record_request(number) for number in numbers])
        return [self.parse_record(*item) for item in zip(numbers, blocks, strict=True)]

    def attribute_extents(
        self, record: FileRecord, attribute_type: int, name: str
    ) -> list[Attribute]:
        """The extents of the attribute of that type and name, in the order of their clusters.

        Empty where the file has no such attribute; several only where it has an attribute list.
        """
        own = record.attributes_of_type(s.ATTRIBUTE_LIST)
        if not own:
            found = record.attributes_of_type(attribute_type)
            exact = [item for item in found if item.name == name]  # nearly always
            return exact if exact or not name else self._of_name(found, name)
        found = [
            item for item in self._listed_attributes(record, own[0]) if item.type == attribute_type
        ]
        return sorted(self._of_name(found, name), key=lambda item: item.first_vcn)

    def _of_name(self, attributes: list[Attribute], name: str) -> list[Attribute]:
        """Those of that very name, else those of the first whose name differs in case alone."""
        exact = [item for item in attributes if item.name == name]
        if exact or not name:
            return exact
        for other in attributes:
            if compare_names(other.name, name, self.upcase) == 0:
                return [item for item in attributes if item.name == other.name]
        return []

    def upcase(self) -> bytes:
        """The volume's own upper case: $UpCase, a UTF-16 code unit for each of 65,536."""
        return self._upcase_table

    @lazy
    def _upcase_table(self) -> bytes:
        extents = self.attribute_extents(self.read_records([s.UPCASE])[0], s.DATA, "")
        name = f"{self.name}: $UpCase"
        if not extents or extents[0].resident:
            raise Corrupt(f"{name} holds no table", hint=_DAMAGED)
        table = NonResidentData(self.source, self.cluster_size, extents, name)
        data = table.read_at(0, _UPCASE_SIZE)
        if len(data) != _UPCASE_SIZE:
            raise Corrupt(f"{name} holds {len(data)} bytes", hint=_DAMAGED)
        return data

    def _listed_attributes(self, record: FileRecord, listing: Attribute) -> list[Attribute]:
        where = f"{self.name}: record {record.number}"
        if listing.size > _MAX_ATTRIBUTE_LIST_SIZE:
            raise Corrupt(f"{where}: an attribute list of {listing.size} bytes", hint=_DAMAGED)
        data = listing.value
        if not listing.resident:
            source = NonResidentData(
                self.source, self.cluster_size, [listing], f"{where}: attribute list"
            )
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
        wanted = list(dict.fromkeys(wanted))  # some name an attribute twice, none has two of one
        numbers = sorted({number for number, _ in wanted} - {record.number})
        self.source.budget.spend(self.name, len(wanted), len(numbers) * self.record_size)
        others = {other.number: other for other in self.read_records(numbers)} | {
            record.number: record
        }
        for number in numbers:
            if others[number].base_record != record.number:
                raise Corrupt(f"{where}: record {number} belongs to another file", hint=_DAMAGED)
        return [
            item
            for number, identifier in wanted
            for item in others[number].attributes()
            if item.identifier == identifier
        ]

    def all_attributes(self, record: FileRecord) -> list[Attribute]:
        """The attributes of a file, in all of its records."""
        own = record.attributes()
        listing = next((item for item in own if item.type == s.ATTRIBUTE_LIST), None)
        return own if listing is None else self._listed_attributes(record, listing)
