"""Physical volumes, volume groups and the logical volumes in them.

J. Metz, "Logical Volume Manager (LVM) format specification": "Physical volume label", "Physical
volume header", "Metadata area". Of two metadata areas the one with the higher sequence number
counts. Linear and striped logical volumes can be read; mirrors, snapshots, thin and cached ones are
refused by name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from imagetool.budget import Budget
from imagetool.contracts import Range, Source
from imagetool.disk.extents import Extent, ExtentMap, read_extent_data
from imagetool.disk.source import read_exactly
from imagetool.errors import Corrupt, Unsupported
from imagetool.filesystem.lvm.metadata import Section, Value, parse_metadata

SECTOR = 512
_LABEL = struct.Struct("<8sQII8s")
_AREA = struct.Struct("<QQ")
_AREA_HEADER = struct.Struct("<I16sIQQ")
_RAW_LOCATION = struct.Struct("<QQII")
_AREA_MAGIC = b" LVM2 x[5A%r0N*>"
_AREA_HEADER_SIZE = 512
_MAX_METADATA_AREAS = 16
_MAX_METADATA_TEXT = 4 << 20
_MAX_SEGMENTS = 65536
_IGNORED = 1
_DAMAGED = "The volume group is damaged: restore it with vgcfgrestore."


@dataclass(frozen=True, slots=True)
class PhysicalVolume:
    """A physical volume: its identifier, and its copy of the volume group's metadata."""

    source: Source
    identifier: str
    """32 characters, without dashes."""
    group_name: str
    metadata: Section
    sequence: int


class LogicalVolume:
    """A logical volume, from its section of the metadata.

    `group` is the section of the volume group, `members` the physical volumes by their names in it.
    """

    def __init__(
        self, name: str, description: Section, group: Section, members: dict[str, Source]
    ) -> None:
        self.name = name
        """Group and volume: vg/root."""
        self._extent_size = _number(group, "extent_size", name) * SECTOR
        self._group = group
        self._members = members
        count = min(_number(description, "segment_count", name), _MAX_SEGMENTS)
        self._segments = [
            _section(description, f"segment{index}", name) for index in range(1, count + 1)
        ]

    @property
    def size(self) -> int:
        """The size in bytes."""
        ends = [
            _number(item, "start_extent", self.name) + _number(item, "extent_count", self.name)
            for item in self._segments
        ]
        return max(ends, default=0) * self._extent_size

    def open(self) -> Source:
        """The bytes as a source. Raises Unsupported unless all segments are linear or striped."""
        # What lies in stripes becomes a source of its own, behind the physical volumes.
        physical = Concatenation(list(self._members.values()), self.name)
        starts, start = {}, 0
        for name, source in self._members.items():
            starts[name] = start
            start += source.size
        sources: list[Source] = [physical]
        extents: list[tuple[int, int, int]] = []
        physical.budget.spend(self.name, len(self._segments))
        for segment in self._segments:
            start = _number(segment, "start_extent", self.name) * self._extent_size
            length = _number(segment, "extent_count", self.name) * self._extent_size
            offsets = self._stripe_offsets(segment, starts)
            if len(offsets) == 1:
                extents.append((start, length, offsets[0]))
                continue
            width = _number(segment, "stripe_size", self.name) * SECTOR
            if not width or length % (width * len(offsets)):
                raise Corrupt(f"{self.name}: stripes of {width} bytes", hint=_DAMAGED)
            extents.append((start, length, sum(source.size for source in sources)))
            sources.append(Stripes(physical, offsets, width, length, self.name))
        return ExtentMap(Concatenation(sources, self.name), extents, self.size, self.name)

    def _stripe_offsets(self, segment: Section, starts: dict[str, int]) -> list[int]:
        """The offset of each stripe, counted over all physical volumes; one if linear."""
        kind = segment.get("type", "striped")
        if kind not in ("striped", "linear"):
            raise Unsupported(
                f"{self.name}: logical volumes of the type {kind} are not read",
                hint="Linear and striped ones are.",
            )
        stripes = segment.get("stripes")
        if not isinstance(stripes, list) or not stripes or len(stripes) % 2:
            raise Corrupt(f"{self.name}: a segment without stripes", hint=_DAMAGED)
        return [
            self._stripe_offset(stripes[index], stripes[index + 1], starts)
            for index in range(0, len(stripes), 2)
        ]

    def _stripe_offset(self, name: Value, extent: Value, starts: dict[str, int]) -> int:
        physical = _section(self._group, "physical_volumes", self.name).get(str(name))
        if not isinstance(physical, dict) or not isinstance(extent, int) or extent < 0:
            raise Corrupt(f"{self.name}: it lies on {name}, which is not listed", hint=_DAMAGED)
        if str(name) not in starts:
            raise Unsupported(
                f"{self.name}: it lies on the physical volume {name}, which is not on this disk",
                hint="Logical volumes over several disks are not read.",
            )
        return (
            starts[str(name)]
            + _number(physical, "pe_start", self.name) * SECTOR
            + (extent * self._extent_size)
        )


class Concatenation:
    """Several sources as one, each behind the one before."""

    def __init__(self, sources: Sequence[Source], name: str) -> None:
        self._sources = sources
        self.name = name
        self.budget = sources[0].budget if sources else Budget()
        self.size = sum(source.size for source in sources)

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        if len(self._sources) == 1:
            return self._sources[0].read_at(offset, length)
        found = b""
        for source in self._sources:
            if 0 <= offset < source.size and length > 0:
                part = source.read_at(offset, min(length, source.size - offset))
                found += part
                length -= len(part)
                offset += len(part)
            offset -= source.size
        return found

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many."""
        if len(self._sources) == 1:
            return self._sources[0].read_many(ranges)
        return [self.read_at(*item) for item in ranges]


class Stripes:
    """A segment whose bytes alternate between stripes: `width` bytes of each in turn."""

    def __init__(
        self, source: Source, offsets: Sequence[int], width: int, size: int, name: str
    ) -> None:
        self._source = source
        self._offsets = offsets
        self._width = width
        self.name = name
        self.size = size
        self.budget = source.budget

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        return self.read_many([(offset, length)])[0]

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many: one batch of the underlying source."""
        return read_extent_data(self._source, [list(self._extents(*item)) for item in ranges])

    def _extents(self, offset: int, length: int) -> Iterator[Extent]:
        end = min(offset + length, self.size)
        while 0 <= offset < end:
            number, inside = divmod(offset, self._width)
            row, column = divmod(number, len(self._offsets))
            part = min(self._width - inside, end - offset)
            yield self._offsets[column] + row * self._width + inside, part
            offset += part


def read_physical_volume(source: Source) -> PhysicalVolume:
    """Read the label and the newest metadata of a physical volume. Raises Corrupt."""
    head = source.read_at(0, 4 * SECTOR)
    start = next(
        (
            position
            for position in range(0, len(head), SECTOR)
            if head[position : position + 8] == b"LABELONE"
        ),
        None,
    )
    if start is None or len(head) < start + SECTOR:
        raise Corrupt(f"{source.name}: no label of a physical volume", hint=_DAMAGED)
    _, _, _, offset, _ = _LABEL.unpack_from(head, start)
    if not 32 <= offset <= SECTOR - 40:
        raise Corrupt(f"{source.name}: a damaged label of a physical volume", hint=_DAMAGED)
    position = start + offset
    identifier = head[position : position + 32].decode("ascii", "replace")
    areas = list(_metadata_areas(head[: start + SECTOR], position + 40))
    newest: tuple[int, str, Section] | None = None
    for area in areas:
        found = _read_metadata_area(source, *area)
        if found is not None and (newest is None or found[0] > newest[0]):
            newest = found
    if newest is None:
        raise Corrupt(f"{source.name}: no metadata of a volume group", hint=_DAMAGED)
    return PhysicalVolume(source, identifier, newest[1], newest[2], newest[0])


def _metadata_areas(head: bytes, position: int) -> Iterator[Range]:
    """The metadata areas, (offset, size): the second of two lists, each ended by zeros."""
    lists = 0
    for _ in range(2 * _MAX_METADATA_AREAS):
        if position + _AREA.size > len(head):
            return
        offset, size = _AREA.unpack_from(head, position)
        position += _AREA.size
        if not offset:
            lists += 1
            if lists == 2:
                return
        elif lists:
            yield offset, size


def _read_metadata_area(source: Source, offset: int, size: int) -> tuple[int, str, Section] | None:
    """Sequence number, group name and group section of a metadata area; None where unused."""
    head = read_exactly(source, offset, _AREA_HEADER_SIZE, "a metadata area")
    _, magic, version, start, length = _AREA_HEADER.unpack_from(head)
    if magic != _AREA_MAGIC or version != 1 or start != offset or length != size:
        raise Corrupt(f"{source.name}: a damaged metadata area at {offset}", hint=_DAMAGED)
    text_offset, count, _, flags = _RAW_LOCATION.unpack_from(head, _AREA_HEADER.size)
    if not text_offset or flags & _IGNORED:
        return None
    if not _AREA_HEADER_SIZE <= text_offset < size or not 0 < count <= min(
        _MAX_METADATA_TEXT, size
    ):
        raise Corrupt(f"{source.name}: the text of {count} bytes does not fit", hint=_DAMAGED)
    source.budget.spend(source.name, 0, count)
    # The area is a ring buffer behind its header: a text wraps around at its end.
    first = min(count, size - text_offset)
    raw = read_exactly(source, offset + text_offset, first, "the text of the volume group")
    if first < count:
        raw += read_exactly(
            source, offset + _AREA_HEADER_SIZE, count - first, "the text of the volume group"
        )
    where = f"{source.name}: volume group"
    text = parse_metadata(raw.decode("utf-8", "replace").rstrip("\0"), where, source.budget)
    for name, value in text.items():
        if isinstance(value, dict):
            return _number(value, "seqno", where), name, value
    raise Corrupt(f"{where}: its text names no group", hint=_DAMAGED)


def logical_volumes(physical: Sequence[PhysicalVolume]) -> list[LogicalVolume]:
    """The visible logical volumes of every group on these physical volumes."""
    newest: dict[str, PhysicalVolume] = {}
    for item in physical:
        if item.group_name not in newest or item.sequence > newest[item.group_name].sequence:
            newest[item.group_name] = item
    found = []
    for name, holder in newest.items():
        group = holder.metadata
        listed = _section(group, "physical_volumes", name)
        members = {}
        for member, description in listed.items():
            identifier = description.get("id") if isinstance(description, dict) else None
            for item in physical:
                if str(identifier).replace("-", "") == item.identifier:
                    members[member] = item.source
        volumes = group.get("logical_volumes", {})
        for volume, description in volumes.items() if isinstance(volumes, dict) else ():
            if not isinstance(description, dict):
                continue
            status = description.get("status")
            if isinstance(status, list) and "VISIBLE" in status:
                found.append(LogicalVolume(f"{name}/{volume}", description, group, members))
    return found


def _number(section: Section, name: str, where: str) -> int:
    value = section.get(name)
    if not isinstance(value, int) or not 0 <= value < 1 << 62:
        raise Corrupt(f"{where}: {name} is missing or makes no sense", hint=_DAMAGED)
    return value


def _section(section: Section, name: str, where: str) -> Section:
    value = section.get(name)
    if not isinstance(value, dict):
        raise Corrupt(f"{where}: the section {name} is missing", hint=_DAMAGED)
    return value
