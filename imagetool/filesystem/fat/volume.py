"""A FAT volume: clusters linked in a table, directories as lists of entries.

The table is read by page, and a chain only as far as its file goes. Timestamps are local times of
an unknown zone; they are given as UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from imagetool.contracts import Source
from imagetool.disk.declarations import ConstructError
from imagetool.disk.extents import ExtentMap
from imagetool.errors import Corrupt
from imagetool.filesystem.fat import structs as s
from imagetool.filesystem.inode_volume import FileType, InodeVolume
from imagetool.filesystem.volume import truncation_warnings

_DAMAGED = "The volume is damaged: let the guest check it (chkdsk), or restore the image."
_TABLE_PAGE_SIZE = 12288  # whole entries of 12, 16 and 32 bits
_MAX_CACHED_PAGES = 256
_MAX_DIRECTORY_ENTRIES = 65536 * 4
_CLUSTERS_PER_OBJECT = 16
_EPOCH = datetime(1980, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FatEntry:
    """A directory entry, which is the inode of FAT: first cluster, size, attributes, time."""

    cluster: int
    size: int
    attributes: int
    modified: datetime

    @property
    def file_type(self) -> FileType:
        """Directory or file."""
        return FileType.DIRECTORY if self.attributes & s.IS_DIRECTORY else FileType.FILE


class Fat(InodeVolume[FatEntry]):
    """A FAT volume in a source. Raises Corrupt."""

    file_system = "FAT"
    separators = "\\/"

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        try:
            fields = s.BootSector.parse(source.read_at(0, 512))
        except ConstructError:
            raise self.damaged("its boot sector is cut off") from None
        sector, per_cluster = fields.bytes_per_sector, fields.sectors_per_cluster
        self.cluster_size = sector * per_cluster
        table_sectors = fields.table_sectors_16 or fields.table_sectors_32
        root_sectors = -(-fields.root_entries * s.ENTRY_SIZE // sector) if sector else 0
        first = fields.reserved_sectors + fields.table_count * table_sectors + root_sectors
        total = fields.total_sectors_16 or fields.total_sectors_32
        sound = sector in (512, 1024, 2048, 4096) and self.cluster_size <= 1 << 20
        if not sound or not per_cluster or per_cluster & (per_cluster - 1):
            raise self.damaged(f"clusters of {per_cluster} sectors of {sector} bytes")
        if not (fields.table_count and table_sectors and fields.reserved_sectors) or first >= total:
            raise self.damaged("its boot sector contradicts itself")
        self._stated_size = total * sector
        self.cluster_count = (total - first) // per_cluster
        self._bits = 12 if self.cluster_count < s.MIN_FAT16_CLUSTERS else 16
        if not fields.table_sectors_16:  # as Windows and Linux decide, whatever the count
            self._bits = 32
        self._table_offset = fields.reserved_sectors * sector
        self._table_size = table_sectors * sector
        if (self.cluster_count + 2) * self._bits > self._table_size * 8:
            raise self.damaged(f"its table is too short for {self.cluster_count} clusters")
        self._data_offset = first * sector
        self._root_range = (first - root_sectors) * sector, root_sectors * sector
        self._root_cluster = fields.root_cluster if self._bits == 32 else 0
        self._pages: dict[int, bytes] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """As Volume.warnings."""
        return truncation_warnings(self.source, self._stated_size)

    def damaged(self, what: str) -> Corrupt:
        """The error for a damaged structure, with the advice to check the volume."""
        return Corrupt(f"{self.name}: {what}", hint=_DAMAGED)

    def _next_cluster(self, cluster: int) -> int:
        """The table's entry for a cluster: the next one of its chain, or the end."""
        page, inside = divmod(cluster * self._bits // 8, _TABLE_PAGE_SIZE)
        data = self._pages.get(page)
        if data is None:
            if len(self._pages) >= _MAX_CACHED_PAGES:
                self._pages.clear()
            # One byte more: an entry of 12 bits may reach into the next page.
            data = self._pages[page] = self.source.read_at(
                self._table_offset + page * _TABLE_PAGE_SIZE, _TABLE_PAGE_SIZE + 1
            )
        if len(data) < inside + self._bits // 8:
            raise self.damaged("its table lies beyond the end of the image")
        if self._bits == 12:
            pair = int.from_bytes(data[inside : inside + 2], "little")
            return pair >> 4 if cluster & 1 else pair & 0xFFF
        width = self._bits // 8
        return int.from_bytes(data[inside : inside + width], "little") & 0x0FFFFFFF

    def _chain_extents(
        self, cluster: int, count: int | None, name: str
    ) -> list[tuple[int, int, int]]:
        """The extents of a chain of `count` clusters; None: up to the chain's end.

        As (offset in the file, length, offset in the volume), in bytes.
        """
        extents: list[tuple[int, int, int]] = []
        last = (1 << min(self._bits, 28)) - 8
        done, size = 0, self.cluster_size
        budget, charged = self.source.budget, 0
        while count is None or done < count:
            if count is None and cluster >= last:
                break
            if not 2 <= cluster < self.cluster_count + 2 or done > self.cluster_count:
                raise self.damaged(f"{name}: its chain of clusters breaks at {cluster}")
            offset = self._data_offset + (cluster - 2) * size
            if extents and extents[-1][2] + extents[-1][1] == offset:
                start, length, first = extents[-1]
                extents[-1] = (start, length + size, first)
            else:
                extents.append((done * size, size, offset))
            done += 1
            if not done % _CLUSTERS_PER_OBJECT:
                budget.spend(self.name, 1 + len(extents) - charged)
                charged = len(extents)
            cluster = self._next_cluster(cluster) if count is None or done < count else cluster
        return extents

    # As InodeVolume requires

    def root(self) -> FatEntry:
        """The root directory."""
        return FatEntry(self._root_cluster, 0, s.IS_DIRECTORY, _EPOCH)

    def child(self, directory: FatEntry, name: str) -> FatEntry | None:
        """The entry of that long or short name, in any case of letters."""
        wanted = name.upper()
        with self.source.budget:
            for long, short, entry in self._entries(directory):
                if wanted in (long.upper(), short):
                    return entry
        return None

    def children(self, directory: FatEntry) -> Iterator[tuple[str, FatEntry]]:
        """The names in a directory."""
        with self.source.budget:
            found = [(long, entry) for long, _, entry in self._entries(directory)]
        yield from found

    def _open_directory(self, directory: FatEntry) -> Source:
        if not directory.cluster:  # the root of FAT12 and FAT16 lies before the clusters
            offset, size = self._root_range
            return ExtentMap(self.source, [(0, size, offset)], size, f"{self.name}: root directory")
        name = f"{self.name}: directory at cluster {directory.cluster}"
        extents = self._chain_extents(directory.cluster, None, name)
        return ExtentMap(self.source, extents, sum(item[1] for item in extents), name)

    def _entries(self, directory: FatEntry) -> Iterator[tuple[str, str, FatEntry]]:
        """Long name, short name and entry of everything in a directory."""
        source = self._open_directory(directory)
        if source.size > _MAX_DIRECTORY_ENTRIES * s.ENTRY_SIZE:
            raise self.damaged(f"{source.name}: {source.size} bytes")
        long: list[bytes] = []
        for start in range(0, source.size, 65536):
            block = source.read_at(start, 65536)
            self.source.budget.spend(self.name, len(block) // s.ENTRY_SIZE)
            for position in range(0, len(block) - s.ENTRY_SIZE + 1, s.ENTRY_SIZE):
                raw = block[position : position + s.ENTRY_SIZE]
                if raw[0] == s.END_OF_DIRECTORY:
                    return
                if raw[0] == s.DELETED:
                    long.clear()
                elif raw[11] & 0x3F == s.IS_LONG_NAME:
                    if raw[0] & s.IS_LAST_LONG:
                        long.clear()
                    long.append(raw)
                else:
                    if not raw[11] & s.IS_VOLUME and raw[:2] not in (b". ", b".."):
                        short = _short_name(raw)
                        yield _long_name(long, raw) or short, short.upper(), self._parse_entry(raw)
                    long.clear()

    def _parse_entry(self, raw: bytes) -> FatEntry:
        _, _, attributes, _, high, time, date, low, size = s.ENTRY.unpack(raw)
        cluster = low | (high << 16 if self._bits == 32 else 0)
        return FatEntry(cluster, size, attributes & 0x3F, _decode_timestamp(date, time))

    def open_data(self, inode: FatEntry, name: str) -> Source:
        """The bytes of a file."""
        count = -(-inode.size // self.cluster_size)
        if count > self.cluster_count:
            raise self.damaged(f"{name}: {inode.size} bytes are more than the volume holds")
        with self.source.budget:
            extents = self._chain_extents(inode.cluster, count, name) if count else []
        return ExtentMap(self.source, extents, inode.size, name)


def _short_name(raw: bytes) -> str:
    name, suffix = (part.decode("cp437").rstrip() for part in (raw[:8], raw[8:11]))
    if raw[0] == 0x05:
        name = "\u03c3" + name[1:]  # 0xE5, which as the first byte means "deleted"
    name = name.lower() if raw[12] & s.LOWER_NAME else name
    suffix = suffix.lower() if raw[12] & s.LOWER_SUFFIX else suffix
    return f"{name}.{suffix}" if suffix else name


def _long_name(parts: list[bytes], short: bytes) -> str:
    """The long name in the entries before the short one, the last part first.

    Empty where the parts are incomplete, or belong to another short name.
    """
    check = 0
    for byte in short[:11]:
        check = ((check & 1) << 7) + (check >> 1) + byte & 0xFF
    count = len(parts)
    for index, part in enumerate(parts):
        if part[13] != check or part[0] & 0x1F != count - index:
            return ""
    raw = b"".join(part[1:11] + part[14:26] + part[28:32] for part in reversed(parts))
    return raw.decode("utf-16-le", "surrogatepass").split("\0")[0]


def _decode_timestamp(date: int, time: int) -> datetime:
    try:
        return datetime(
            1980 + (date >> 9),
            date >> 5 & 15,
            date & 31,
            time >> 11,
            time >> 5 & 63,
            min(59, (time & 31) * 2),
            tzinfo=UTC,
        )
    except ValueError:
        return _EPOCH
