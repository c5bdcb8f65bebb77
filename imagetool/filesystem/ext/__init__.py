"""ext2, ext3 and ext4 volumes."""

from imagetool.filesystem.ext.volume import Ext

__all__ = ["Ext"]
