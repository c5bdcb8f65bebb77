"""An XFS volume: inodes by their numbers, directories by their data blocks.

The log is not replayed: a volume that was not unmounted cleanly is read as it is on disk.
Directories are read from their start; their hash index only speeds up the search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from imagetool.contracts import Source
from imagetool.disk.declarations import ConstructError
from imagetool.disk.extents import ExtentMap
from imagetool.disk.lazy import lazy
from imagetool.disk.source import MemorySource
from imagetool.errors import Corrupt, Unsupported
from imagetool.filesystem.inode_volume import FileType
from imagetool.filesystem.numbered_volume import BYTES_PER_ENTRY, NumberedVolume
from imagetool.filesystem.volume import truncation_warnings
from imagetool.filesystem.xfs import structs as s
from imagetool.filesystem.xfs.inode import XfsInode, file_extents
from imagetool.filesystem.xfs.log import is_clean

_DAMAGED = "The volume is damaged: let the guest check it (xfs_repair), or restore the image."
_MAX_DIRECTORY_SIZE = 256 << 20
_DIRECTORY_READ_SIZE = 1 << 18
_MAX_LINK_SIZE = 1 << 16


class Xfs(NumberedVolume[XfsInode]):
    """An XFS volume in a source. Raises Corrupt; Unsupported for unknown features."""

    file_system = "XFS"

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        try:
            block = self._superblock = s.SuperBlock.parse(source.read_at(0, 512))
        except ConstructError:
            raise self.damaged("no XFS superblock") from None
        version = block.version & s.VERSION_MASK
        if version not in (4, 5):
            raise Unsupported(f"{self.name}: XFS of version {version} is not read")
        unknown = block.incompatible & ~s.READABLE_FEATURES if version == 5 else 0
        if unknown:
            raise Unsupported(
                f"{self.name}: an XFS volume with feature 0x{unknown:x} is not read",
                hint="A newer Linux wrote it; copy the files out there.",
            )
        self.block_size = block.block_size
        for size, log, least, most in (
            (block.block_size, block.block_log, 512, 65536),
            (block.inode_size, block.inode_log, 256, 2048),
            (block.inodes_per_block, block.inodes_per_block_log, 1, 256),
        ):
            if log > 16 or size != 1 << log or not least <= size <= most:
                raise self.damaged("its superblock contradicts itself")
        if block.inodes_per_block * block.inode_size != block.block_size:
            raise self.damaged("its superblock contradicts itself")
        if not (0 < block.group_blocks <= 1 << min(block.group_blocks_log, 31)):
            raise self.damaged(f"allocation groups of {block.group_blocks} blocks")
        if block.directory_block_log > 7 or block.block_size << block.directory_block_log > 65536:
            raise self.damaged("directory blocks above 64 KiB")
        self._directory_block_size = block.block_size << block.directory_block_log
        types = s.HAS_FILE_TYPES_5 & block.incompatible if version == 5 else 0
        if version == 4 and block.version & s.HAS_MORE_BITS:
            types = block.features2 & s.HAS_FILE_TYPES_4
        self._has_file_types = bool(types)
        self._needs_repair = version == 5 and bool(block.incompatible & s.NEEDS_REPAIR)

    @lazy
    def needs_replay(self) -> bool:
        """As Volume.needs_replay; True where the log lies on another device."""
        block = self._superblock
        if not block.log_start:
            return True
        offset = self.block_offset(block.log_start, block.log_blocks, "the log")
        return not is_clean(self.source, offset, block.log_blocks * self.block_size)

    @property
    def warnings(self) -> tuple[str, ...]:
        """As Volume.warnings."""
        block = self._superblock
        found = [*truncation_warnings(self.source, block.block_count * block.block_size)]
        if self._needs_repair:
            found.append("the volume is marked as in need of repair (xfs_repair)")
        if self.needs_replay:
            found.append("the log holds writes that are not in place: it is read as it lies")
        return tuple(found)

    def damaged(self, what: str) -> Corrupt:
        """The error for a damaged structure, with the advice to check the volume."""
        return Corrupt(f"{self.name}: {what}", hint=_DAMAGED)

    def block_offset(self, number: int, count: int, name: str) -> int:
        """The offset of `count` blocks in bytes; a block number is a group and a block in it.

        Raises Corrupt, naming `name`, where they leave the group.
        """
        group, inside = divmod(number, 1 << self._superblock.group_blocks_log)
        first = group * self._superblock.group_blocks + inside
        outside = (
            inside + count > self._superblock.group_blocks or group >= self._superblock.group_count
        )
        if outside or first + count > self._superblock.block_count:
            raise self.damaged(f"{name}: block {number} lies beyond the volume")
        return int(first * self.block_size)

    def read_blocks(self, numbers: Sequence[int], name: str) -> list[bytes]:
        """Blocks of the volume, read in one batch."""
        ranges = [(self.block_offset(number, 1, name), self.block_size) for number in numbers]
        found = self.source.read_many(ranges)
        if any(len(block) != self.block_size for block in found):
            raise self.damaged(f"{name}: a block lies beyond the end of the image")
        return found

    def read_inodes(self, numbers: Sequence[int]) -> list[XfsInode]:
        """Inodes by their numbers: group, block in it, index in that; read in one batch."""
        size, log = self._superblock.inode_size, self._superblock.inodes_per_block_log
        ranges = []
        for number in numbers:
            block, index = number >> log, number & ((1 << log) - 1)
            start = self.block_offset(block, 1, f"inode {number}")
            ranges.append((start + index * size, size))
        found = []
        for number, raw in zip(numbers, self.source.read_many(ranges), strict=True):
            if raw[:2] != b"IN" or len(raw) != size or not 1 <= raw[4] <= 3:
                raise self.damaged(f"there is no inode {number}")
            found.append(XfsInode(number, raw))
        return found

    # As NumberedVolume requires

    def root(self) -> XfsInode:
        """The root directory."""
        return self.read_inodes([self._superblock.root_inode])[0]

    def directory_entries(self, directory: XfsInode) -> Iterator[tuple[bytes, int]]:
        """As NumberedVolume.directory_entries."""
        where = f"directory {directory.number}"
        if directory.format == s.LOCAL:
            yield from self._short_form_entries(directory, where)
            return
        if directory.size > _MAX_DIRECTORY_SIZE:
            raise self.damaged(f"{where} is {directory.size} bytes long")
        data = ExtentMap(self.source, file_extents(self, directory, where), directory.size, where)
        size = self._directory_block_size
        for offset in range(0, directory.size, _DIRECTORY_READ_SIZE):
            chunk = data.read_at(offset, _DIRECTORY_READ_SIZE)
            self.source.budget.spend(self.name, len(chunk) // BYTES_PER_ENTRY)
            for position in range(0, len(chunk), size):
                block = chunk[position : position + size]
                if block[:4] != bytes(4):  # an emptied block becomes a hole
                    yield from self._parse_entries(block, where)

    def _short_form_entries(self, directory: XfsInode, where: str) -> Iterator[tuple[bytes, int]]:
        """The entries of a small directory, which its inode holds ("Short Form Directories")."""
        fork = directory.data_fork()
        count, wide = fork[0], fork[1]
        width = 8 if wide else 4
        position = 2 + width
        for _ in range(max(count, wide)):
            length = fork[position] if position < len(fork) else 0
            end = position + 3 + length
            number = end + self._has_file_types
            if not length or number + width > len(fork):
                raise self.damaged(f"{where} has a damaged entry")
            yield fork[position + 3 : end], int.from_bytes(fork[number : number + width], "big")
            position = number + width

    def _parse_entries(self, block: bytes, where: str) -> Iterator[tuple[bytes, int]]:
        """The entries in a data block ("Block Directories", "Leaf Directories")."""
        header = s.DIRECTORY_HEADERS.get(block[:4])
        end = len(block)
        if header is None or end != self._directory_block_size:
            raise self.damaged(f"{where} has a block that is none of a directory")
        if block[:4] in s.BLOCK_MAGIC:
            count = int.from_bytes(block[-8:-4], "big")
            end -= 8 + 8 * count
        position = header
        while position + 16 <= end:
            if block[position : position + 2] == s.UNUSED:
                length = int.from_bytes(block[position + 2 : position + 4], "big")
            else:
                size = block[position + 8]
                name = block[position + 9 : position + 9 + size]
                length = (11 + size + self._has_file_types + 7) & ~7
                if not size or position + length > end:
                    raise self.damaged(f"{where} has a damaged entry at byte {position} of a block")
                if name not in (b".", b".."):
                    yield name, int.from_bytes(block[position : position + 8], "big")
            if length < 8 or length % 8:
                raise self.damaged(f"{where} has a damaged entry at byte {position} of a block")
            position += length

    def open_data(self, inode: XfsInode, name: str) -> Source:
        """The bytes of a file or link. Raises Unsupported for data on another device."""
        if inode.format == s.LOCAL:
            return MemorySource(inode.data_fork()[: inode.size], name)
        with self.source.budget:
            extents = file_extents(self, inode, name)
            extent_map = ExtentMap(self.source, extents, inode.size, name)
        if inode.file_type is not FileType.LINK or inode.version < 3:
            return extent_map
        return MemorySource(self._remote_link(inode, name), name)

    def _remote_link(self, inode: XfsInode, name: str) -> bytes:
        """The target of a long link in version 5, less its headers ("Extent Symbolic Links").

        A header is at the start of each extent, however many blocks that has.
        """
        target = b""
        for _, length, start in file_extents(self, inode, name):
            data = self.source.read_at(start, min(length, _MAX_LINK_SIZE)) if start >= 0 else b""
            count = int.from_bytes(data[8:12], "big")
            if data[:4] != s.LINK_MAGIC or s.LINK_HEADER + count > len(data):
                raise self.damaged(f"{name}: a damaged symbolic link")
            target += data[s.LINK_HEADER : s.LINK_HEADER + count]
            if len(target) >= inode.size:
                break
        return target[: inode.size]
