"""XFS volumes, versions 4 and 5."""

from imagetool.filesystem.xfs.volume import Xfs

__all__ = ["Xfs"]
