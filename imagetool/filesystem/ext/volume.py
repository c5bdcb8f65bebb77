"""An ext2, ext3 or ext4 volume.

The journal of a volume that was not unmounted cleanly is replayed in memory; where it cannot be,
the volume is read as it is on disk, and its warnings say so. Directories are read from their start:
the hash tree of a large one only speeds up the search for the same entries.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from imagetool.contracts import Source
from imagetool.disk.declarations import ConstructError
from imagetool.disk.extents import ExtentMap
from imagetool.disk.source import MemorySource
from imagetool.errors import Corrupt, Encrypted, Unsupported
from imagetool.filesystem.ext import structs as s
from imagetool.filesystem.ext.blocks import BlockMapData, file_extents
from imagetool.filesystem.inode_volume import (
    FileType,
    windows_attributes,
)
from imagetool.filesystem.numbered_volume import BYTES_PER_ENTRY, NumberedVolume
from imagetool.filesystem.volume import truncation_warnings

if TYPE_CHECKING:
    from imagetool.filesystem.ext.recovery import Recovery

_DAMAGED = "The volume is damaged: let the guest check it (fsck), or restore the image."
_MAX_DIRECTORY_SIZE = 256 << 20
_DIRECTORY_READ_SIZE = 1 << 17
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FILE_TYPES = {
    s.IS_DIRECTORY: FileType.DIRECTORY,
    s.IS_FILE: FileType.FILE,
    s.IS_LINK: FileType.LINK,
}


@dataclass(frozen=True, slots=True)
class ExtInode:
    """An inode: its number and its bytes."""

    number: int
    raw: bytes

    @property
    def file_type(self) -> FileType:
        """The type, by the mode."""
        mode = int.from_bytes(self.raw[:2], "little")
        return _FILE_TYPES.get(mode & s.FILE_TYPE_MASK, FileType.OTHER)

    @property
    def size(self) -> int:
        """The size of its data in bytes."""
        low = int.from_bytes(self.raw[4:8], "little")
        return (
            low
            | int.from_bytes(self.raw[s.INODE_SIZE_HIGH : s.INODE_SIZE_HIGH + 4], "little") << 32
        )

    @property
    def flags(self) -> int:
        """EXT4_…_FL: extents, inline data, encryption and others."""
        return int.from_bytes(self.raw[32:36], "little")

    @property
    def i_block(self) -> bytes:
        """The 60 bytes that hold a block map, an extent tree's root, or data."""
        return self.raw[s.INODE_BLOCK : s.INODE_BLOCK + 60]

    @property
    def modified(self) -> datetime:
        """The time of the last change of the content; the two low bits of the extra field count
        epochs of 2^32 s.
        """
        seconds = int.from_bytes(self.raw[16:20], "little", signed=True)
        extra = self.raw[136:140] if self._extra_size() >= 12 else b""
        seconds += (int.from_bytes(extra, "little") & 3) << 32
        return _EPOCH + timedelta(seconds=seconds)

    def _extra_size(self) -> int:
        return int.from_bytes(self.raw[s.INODE_EXTRA : s.INODE_EXTRA + 2], "little")

    @property
    def attributes(self) -> int:
        """FILE_ATTRIBUTE_…"""
        return windows_attributes(self.file_type)

    def inline_data(self) -> bytes:
        """Data in the inode itself: i_block, then the extended attribute system.data."""
        start = s.INODE_EXTRA + self._extra_size()
        raw = self.raw
        rest = b""
        if int.from_bytes(raw[start : start + 4], "little") == s.ATTRIBUTE_MAGIC:
            first = cursor = start + 4
            while cursor + s.ATTRIBUTE.size <= len(raw) and raw[cursor : cursor + 4] != bytes(4):
                length, index, offset, _, size, _ = s.ATTRIBUTE.unpack_from(raw, cursor)
                name = raw[cursor + s.ATTRIBUTE.size :][:length]
                if index == s.SYSTEM_ATTRIBUTE and name == b"data":
                    rest = raw[first + offset : first + offset + size]
                cursor += (s.ATTRIBUTE.size + length + 3) & ~3
        return (self.i_block + rest)[: self.size]


class Ext(NumberedVolume[ExtInode]):
    """An ext volume in a source. Raises Corrupt; Unsupported for unknown features."""

    file_system = "ext"

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._load_superblock()
        self._recovery: Recovery | None = None
        if self._superblock.incompatible & s.NEEDS_RECOVERY:
            from imagetool.filesystem.ext.recovery import recover

            self._recovery = recover(self, self._superblock.journal_inode)
            if self._recovery.source is not None:  # the superblock may be among what is replayed
                self.source = self._recovery.source
                self._load_superblock()

    def _load_superblock(self) -> None:
        try:
            block = s.SuperBlock.parse(self.source.read_at(s.SUPERBLOCK_OFFSET, 1024))
        except ConstructError:
            raise self.damaged("its superblock is cut off") from None
        if block.magic != s.MAGIC or block.log_block_size > 6:
            raise self.damaged("no superblock of an ext volume")
        unknown = block.incompatible & ~s.READABLE_FEATURES
        if unknown:
            bit = unknown & -unknown
            raise Unsupported(
                f"{self.name}: an ext volume with {s.FEATURE_NAMES.get(bit, f'feature 0x{bit:x}')} "
                "is not read",
                hint="A newer Linux wrote it; copy the files out there.",
            )
        self.block_size = 1024 << block.log_block_size
        self.inode_size = block.inode_size if block.revision else 128
        wide = bool(block.incompatible & s.SIXTY_FOUR_BITS)
        self.block_count = block.blocks_count_low | (block.blocks_count_high << 32 if wide else 0)
        self._descriptor_size = block.descriptor_size if wide else 32
        self._superblock = block
        self._inode_tables: dict[int, int] = {}
        if self.inode_size & (self.inode_size - 1) or not 128 <= self.inode_size <= self.block_size:
            raise self.damaged(f"inodes of {self.inode_size} bytes")
        if not (block.inodes_per_group and block.blocks_per_group):
            raise self.damaged("groups without blocks or inodes")
        if not 32 <= self._descriptor_size <= self.block_size or self._descriptor_size % 8:
            raise self.damaged(f"group descriptors of {self._descriptor_size} bytes")

    @property
    def needs_replay(self) -> bool:
        """As Volume.needs_replay."""
        return self._recovery is not None and bool(self._recovery.missing)

    @property
    def warnings(self) -> tuple[str, ...]:
        """As Volume.warnings."""
        found = truncation_warnings(self.source, self.block_count * self.block_size)
        if self._recovery is not None:
            found += self._recovery.warnings
        elif not self._superblock.state & s.IS_CLEAN:
            found += ("the volume was not unmounted cleanly",)
        return found

    def damaged(self, what: str) -> Corrupt:
        """The error for a damaged structure, with the advice to check the volume."""
        return Corrupt(f"{self.name}: {what}", hint=_DAMAGED)

    def read_blocks(self, numbers: Sequence[int]) -> list[bytes]:
        """Blocks of the volume, read in one batch. Raises Corrupt for one beyond its end."""
        size = self.block_size
        if any(not 0 < number < self.block_count for number in numbers):
            raise self.damaged(f"block {max(numbers)} of {self.block_count} is referred to")
        found = self.source.read_many([(number * size, size) for number in numbers])
        if any(len(block) != size for block in found):
            raise self.damaged("a block lies beyond the end of the image")
        return found

    # Inodes

    def read_inodes(self, numbers: Sequence[int]) -> list[ExtInode]:
        """Inodes by their numbers, which count from 1; read in two batches."""
        per_group = self._superblock.inodes_per_group
        for number in numbers:
            if not 0 < number <= self._superblock.inodes_count:
                raise self.damaged(
                    f"inode {number} of {self._superblock.inodes_count} is referred to"
                )
        self._load_inode_tables({(number - 1) // per_group for number in numbers})
        ranges = []
        for number in numbers:
            group, index = divmod(number - 1, per_group)
            ranges.append((self._inode_tables[group] + index * self.inode_size, self.inode_size))
        found = self.source.read_many(ranges)
        for number, raw in zip(numbers, found, strict=True):
            if len(raw) != self.inode_size:
                raise self.damaged(f"inode {number} lies beyond the end of the image")
        return [ExtInode(number, raw) for number, raw in zip(numbers, found, strict=True)]

    def _load_inode_tables(self, groups: set[int]) -> None:
        wanted = sorted(groups - self._inode_tables.keys())
        size = self._descriptor_size
        ranges = [(self._descriptor_offset(group), size) for group in wanted]
        for group, raw in zip(wanted, self.source.read_many(ranges), strict=True):
            if len(raw) != size:
                raise self.damaged(f"the descriptor of group {group} lies beyond the end")
            (table,) = struct.unpack_from("<I", raw, 8)
            if size >= 64:
                table |= struct.unpack_from("<I", raw, 40)[0] << 32
            if not 0 < table < self.block_count:
                raise self.damaged(f"group {group} has its inodes at block {table}")
            self._inode_tables[group] = table * self.block_size

    def _descriptor_offset(self, group: int) -> int:
        """The offset of a group's descriptor; "Meta Block Groups" spread them over the volume."""
        per_block = self.block_size // self._descriptor_size
        meta, inside = divmod(group, per_block)
        spread = self._superblock.incompatible & s.META_GROUPS
        if not spread or meta < self._superblock.first_meta_group:
            block = s.SUPERBLOCK_OFFSET // self.block_size + 1 + meta
        else:
            start = meta * per_block
            block = self._superblock.first_data_block + start * self._superblock.blocks_per_group
            block += self._has_superblock_copy(start)
            if not start and self.block_size == 1024 and not self._superblock.first_data_block:
                block += 1  # clusters of blocks of 1 KiB count from the boot block
        return int(block * self.block_size + inside * self._descriptor_size)

    def _has_superblock_copy(self, group: int) -> bool:
        """True where a group begins with a copy of the superblock."""
        if group and self._superblock.compatible & s.SPARSE_SUPER2:
            return group in (self._superblock.backup_group_1, self._superblock.backup_group_2)
        if group < 2 or not self._superblock.read_only_compatible & s.SPARSE_SUPER:
            return True
        for base in (3, 5, 7):
            power = base
            while power < group:
                power *= base
            if power == group:
                return True
        return False

    # As NumberedVolume requires

    def root(self) -> ExtInode:
        """The root directory."""
        return self.read_inodes([s.ROOT_INODE])[0]

    def directory_entries(self, directory: ExtInode) -> Iterator[tuple[bytes, int]]:
        """As NumberedVolume.directory_entries."""
        where = f"directory {directory.number}"
        if directory.size > _MAX_DIRECTORY_SIZE:
            raise self.damaged(f"{where} is {directory.size} bytes long")
        if directory.flags & s.IS_ENCRYPTED:
            raise Encrypted(
                f"{self.name}: {where} is encrypted", hint="Only its owner's key opens it."
            )
        if directory.flags & s.IS_INLINE:
            data = directory.inline_data()
            yield from self._parse_entries(data[4:60], where)
            if len(data) > 60:
                yield from self._parse_entries(data[60:], where)
            return
        data_source = self.open_data(directory, f"{self.name}: {where}")
        for offset in range(0, directory.size, _DIRECTORY_READ_SIZE):
            chunk = data_source.read_at(offset, _DIRECTORY_READ_SIZE)
            self.source.budget.spend(self.name, len(chunk) // BYTES_PER_ENTRY)
            for cursor in range(0, len(chunk), self.block_size):
                yield from self._parse_entries(chunk[cursor : cursor + self.block_size], where)

    def _parse_entries(self, block: bytes, where: str) -> Iterator[tuple[bytes, int]]:
        cursor = 0
        while cursor + s.ENTRY.size <= len(block):
            number, length, name_length, _ = s.ENTRY.unpack_from(block, cursor)
            if self.block_size == 65536 and length in (0, 65535):
                length = 65536  # it does not fit the field
            if length < 8 + name_length or length % 4 or cursor + length > len(block):
                raise self.damaged(f"{where} has a damaged entry at byte {cursor} of a block")
            name = block[cursor + 8 : cursor + 8 + name_length]
            if number and name not in (b"", b".", b".."):
                yield name, number
            cursor += length

    def open_data(self, inode: ExtInode, name: str) -> Source:
        """The bytes of a file, link or directory. Raises Encrypted, Unsupported."""
        if inode.flags & s.IS_ENCRYPTED:
            raise Encrypted(f"{name}: the file is encrypted", hint="Only its owner's key opens it.")
        if inode.flags & s.IS_INLINE:
            return MemorySource(inode.inline_data(), name)
        if (
            inode.file_type is FileType.LINK
            and inode.size < 60
            and not inode.flags & s.USES_EXTENTS
        ):
            return MemorySource(inode.i_block[: inode.size], name)
        if inode.flags & s.USES_EXTENTS:
            with self.source.budget:
                extents = file_extents(self, inode.i_block, name)
                return ExtentMap(self.source, extents, inode.size, name)
        return BlockMapData(self, inode.i_block, inode.size, name)
