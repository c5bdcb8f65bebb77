"""Package media as data: the files on them, and their packages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from imagetool.contracts import Reportable
from imagetool.package.media import Component, Media, Member, Package

if TYPE_CHECKING:
    from imagetool.package.cbs import PackageManifest
    from imagetool.package.signature.check import Finding

SYSTEMS = {
    (6, 0): "Windows Vista, Server 2008",
    (6, 1): "Windows 7, Server 2008 R2",
    (6, 2): "Windows 8, Server 2012",
    (6, 3): "Windows 8.1, Server 2012 R2",
}
"""The systems by major and minor version of their packages."""


class PackageSummary(NamedTuple):
    """A package: what update.mum says, and unless it is brief, its components and signature."""

    name: str
    size: int
    manifest: PackageManifest
    files: int
    """The number of its files."""
    components: tuple[Component, ...]
    signature: Finding | None
    """The finding on the signature of the cabinet, or of a folder's catalog; None if brief."""

    @property
    def systems(self) -> tuple[str, ...]:
        """The names of the Windows versions whose packages are its parents."""
        versions = sorted({parent.version[:2] for parent in self.manifest.parents})
        return tuple(SYSTEMS.get(item, f"Windows {item[0]}.{item[1]}") for item in versions)


@dataclass(frozen=True, slots=True)
class MediaSummary(Reportable):
    """A disc, cabinet or folder, and its packages."""

    media: str
    kind: str
    packages: tuple[PackageSummary, ...]
    warnings: tuple[str, ...] = ()
    """What of a disc was not read."""


@dataclass(frozen=True, slots=True)
class MediaContents(Reportable):
    """The files of a disc, cabinet or folder."""

    media: str
    files: tuple[Member, ...]
    warnings: tuple[str, ...] = ()
    """What of a disc was not read."""


def summarise_media(media: Media, *, brief: bool = False) -> MediaSummary:
    """Summarise all packages of a medium; the brief form reads update.mum only.

    Raises Corrupt, BudgetSpent.
    """
    with media.budget:
        packages = tuple(_summarise(package, brief) for package in media.packages)
    return MediaSummary(media.name, media.kind, packages, media.warnings)


def _summarise(package: Package, brief: bool) -> PackageSummary:
    manifest, size, files = package.manifest, package.size, len(package.members())
    if brief:
        return PackageSummary(package.name, size, manifest, files, (), None)
    from imagetool.package.signature.check import check_signature

    return PackageSummary(
        package.name, size, manifest, files, package.components(), check_signature(package)
    )


def list_media(media: Media) -> MediaContents:
    """List the files of a medium, in its order."""
    if media.disc is not None:
        files = tuple(Member(item.path, item.size, item.target) for item in media.disc.files)
    elif media.cabinet is not None:
        files = tuple(Member(member.name, member.size) for member in media.cabinet.members)
    else:
        files = media.packages[0].members()
    return MediaContents(media.name, files, media.warnings)
