"""NTFS volumes."""

from imagetool.filesystem.ntfs.node import NtfsNode
from imagetool.filesystem.ntfs.volume import Ntfs

__all__ = ["Ntfs", "NtfsNode"]
