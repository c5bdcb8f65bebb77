"""What is to be injected: discs, cabinets and CBS manifests."""

from imagetool.package.identity import Identity, Version
from imagetool.package.media import Component, Media, Member, Package, open_media, open_package

__all__ = [
    "Component",
    "Identity",
    "Media",
    "Member",
    "Package",
    "Version",
    "open_media",
    "open_package",
]
