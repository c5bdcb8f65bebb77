"""Packages to inject: discs, cabinets and CBS manifests.

`media` is imported on first use: most commands need only versions and identities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagetool.package.identity import Identity, Version

if TYPE_CHECKING:
    from imagetool.package.media import Component as Component
    from imagetool.package.media import Media as Media
    from imagetool.package.media import Member as Member
    from imagetool.package.media import Package as Package
    from imagetool.package.media import open_media as open_media
    from imagetool.package.media import open_package as open_package

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


def __getattr__(name: str) -> object:
    """Return a name of `media`, which is imported on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(name)
    from imagetool.package import media

    return getattr(media, name)
