"""FAT12, FAT16 and FAT32 volumes."""

from imagetool.filesystem.fat.volume import Fat

__all__ = ["Fat"]
