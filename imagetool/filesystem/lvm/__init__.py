"""LVM2: physical volumes on a disk, and the logical volumes over them."""

from imagetool.filesystem.lvm.volumes import (
    LogicalVolume,
    PhysicalVolume,
    logical_volumes,
    read_physical_volume,
)

__all__ = ["LogicalVolume", "PhysicalVolume", "logical_volumes", "read_physical_volume"]
