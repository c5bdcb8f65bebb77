"""Volumes: NTFS read by its index trees."""

from imagetool.filesystem.recognise import open_volume, recognise
from imagetool.filesystem.volume import Entry, Node, Volume

__all__ = ["Entry", "Node", "Volume", "open_volume", "recognise"]
