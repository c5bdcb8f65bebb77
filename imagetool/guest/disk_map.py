"""The disk of an image as data: its container, its partitions and volumes, and what is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from imagetool.contracts import Range, Reportable

if TYPE_CHECKING:
    from imagetool.guest.image import BlockDevice, Image

_RANGES_PER_BATCH = 1024
_RANGES_PER_OBJECT = 4


class VolumeDescription(NamedTuple):
    """A block device: its number, offset and size in bytes, and what lies on it.

    What a partition table states is empty where there is none.
    """

    number: int
    offset: int
    size: int
    type: str
    type_name: str
    label: str
    identifier: str
    file_system: str
    logical_volume: str
    """Volume group and name: vg/root; empty for a partition."""


class DiskDescription(NamedTuple):
    """A container and its partition table; sizes in bytes."""

    format: str
    kind: str
    size: int
    file_size: int
    sector_size: int
    identifiers: Mapping[str, str]
    """The identifiers of the container, by the names of its specification."""
    chain: tuple[str, ...]
    """The parents of a differencing disk, the nearest first."""
    partition_table: str
    """gpt, mbr or none."""
    disk_identifier: str
    volumes: tuple[VolumeDescription, ...]


@dataclass(frozen=True, slots=True)
class DiskMap(Reportable):
    """The disk of an image, with the ranges of it that are allocated."""

    image: str
    disk: DiskDescription
    allocated_ranges: tuple[Range, ...]
    warnings: tuple[str, ...]

    @property
    def allocated(self) -> int:
        """The bytes that are allocated."""
        return sum(length for _, length in self.allocated_ranges)


def describe_disk(image: Image) -> DiskDescription:
    """Describe an image's container and block devices. Raises Corrupt."""
    disk, table = image.disk, image.partition_table
    return DiskDescription(
        format=disk.format,
        kind=disk.kind,
        size=disk.size,
        file_size=image.file_size,
        sector_size=disk.sector_size,
        identifiers=disk.identifiers,
        chain=disk.chain,
        partition_table=table.scheme,
        disk_identifier=table.identifier,
        volumes=tuple(map(_describe_volume, image.block_devices)),
    )


def _describe_volume(device: BlockDevice) -> VolumeDescription:
    partition = device.partition
    return VolumeDescription(
        number=device.number,
        offset=partition.offset if partition else 0,
        size=device.source.size,
        type=partition.type if partition else "",
        type_name=partition.type_name if partition else "",
        label=partition.label if partition else "",
        identifier=partition.identifier if partition else "",
        file_system=device.file_system,
        logical_volume=device.name,
    )


def _charged(image: Image) -> Iterator[Range]:
    """The allocated ranges, each of which costs of the budget."""
    ranges = image.disk.allocated_ranges()
    while batch := tuple(islice(ranges, _RANGES_PER_BATCH)):
        image.budget.spend(image.path, len(batch) // _RANGES_PER_OBJECT)
        yield from batch


def map_disk(image: Image) -> DiskMap:
    """Map an image's disk, with what is allocated of it. Raises Corrupt."""
    with image.budget:
        allocated = tuple(_charged(image))
        disk = describe_disk(image)
        for device in image.block_devices:
            image.open_if_readable(device)
    return DiskMap(image.path, disk, allocated, image.warnings)
