"""NTFS, read by its index trees."""

from imagetool.filesystem.ntfs.volume import Ntfs, NtfsNode

__all__ = ["Ntfs", "NtfsNode"]
