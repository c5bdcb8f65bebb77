"""File systems, read without mounting: NTFS, ext, XFS, FAT; and LVM2 below them."""

from imagetool.filesystem.recognise import open_volume, recognise
from imagetool.filesystem.volume import Entry, Node, Volume

__all__ = ["Entry", "Node", "Volume", "open_volume", "recognise"]
