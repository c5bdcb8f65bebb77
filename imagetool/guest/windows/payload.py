"""The files of an installed package in the image: manifest, catalog, components, drivers.

The package's own manifest (servicing\\Packages\\<identity>.mum) lists its drivers and components.
Each has a directory in the component store whose name begins with architecture, name, token and
version. Each driver has a directory in the driver store, named in the DriverDatabase.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from imagetool.errors import Corrupt
from imagetool.filesystem import Node, Volume
from imagetool.guest.windows.drivers import find_inf_paths, stored_infs
from imagetool.guest.windows.installation import WindowsInstallation
from imagetool.package.identity import Identity

if TYPE_CHECKING:
    from imagetool.guest.image import Image
    from imagetool.package.cbs import PackageManifest

_PACKAGES_DIRECTORY = "Windows\\servicing\\Packages"
_COMPONENT_STORE = "Windows\\WinSxS"
_MAX_PREFETCHED = 16  # packages
_MAX_MANIFEST_SIZE = 4 << 20


class PayloadStatus(NamedTuple):
    """Presence of a package's files; `missing` lists the paths and drivers that are not there."""

    manifest: bool
    catalog: bool
    missing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """True if manifest, catalog and everything that the manifest lists are present."""
        return self.manifest and self.catalog and not self.missing


def read_payload(windows: WindowsInstallation, identity: Identity) -> PayloadStatus:
    """Look for the files of a package in the image."""
    manifest, catalog = windows.volume.find_many(
        [f"{_PACKAGES_DIRECTORY}\\{identity}.mum", f"{_PACKAGES_DIRECTORY}\\{identity}.cat"]
    )
    missing: list[str] = []
    if manifest is not None:
        missing = _missing_files(windows, _parse_manifest(manifest))
    return PayloadStatus(manifest is not None, catalog is not None, tuple(missing))


def _parse_manifest(node: Node) -> PackageManifest:
    from imagetool.package.cbs import parse_package_manifest

    source = node.open()
    if source.size > _MAX_MANIFEST_SIZE:
        raise Corrupt(f"{source.name}: a package manifest of {source.size} bytes")
    return parse_package_manifest(source.read_at(0, source.size), source.name)


def installed_path(member: str, identity: Identity) -> str:
    """Return the path that the file `member` of the package `identity` has once installed."""
    if member.lower() in ("update.mum", "update.cat"):
        return f"{_PACKAGES_DIRECTORY}\\{identity}{member[-4:].lower()}"
    folder = _COMPONENT_STORE if "/" in member else f"{_COMPONENT_STORE}\\Manifests"
    return f"{folder}\\{member.replace('/', chr(92))}"


def store_directory_prefix(identity: Identity) -> str:
    """Return the first part of a component's directory name in WinSxS; language and hash follow.

    Architecture, name, token and version, in lower case; a name of more than 40 characters keeps
    its first and last 19. Undocumented; seen in Microsoft's packages.
    """
    name = identity.name.lower()
    if len(name) > 40:
        name = f"{name[:19]}..{name[-19:]}"
    return f"{identity.architecture}_{name}_{identity.public_key_token}_{identity.version}_"


def _missing_files(windows: WindowsInstallation, package: PackageManifest) -> list[str]:
    image = windows.image
    not_in_store, without_driver = image.gather(
        partial(_missing_from_store, image, windows.volume, package),
        partial(_missing_drivers, windows, package),
    )
    return not_in_store + without_driver


def _missing_from_store(image: Image, volume: Volume, package: PackageManifest) -> list[str]:
    """Drivers and components without a directory or manifest in the component store."""
    folders = volume.find_many([_COMPONENT_STORE, f"{_COMPONENT_STORE}\\Manifests"])
    # A deployment component has a manifest, and no directory of its own.
    stores = [node for node in folders if node is not None and node.is_directory]
    updates = [driver.identity for driver in package.drivers]
    prefixes = [
        store_directory_prefix(identity)
        for identity in updates + [component.identity for component in package.components]
    ]
    stored = image.gather(*(partial(_is_stored, image, stores, prefix) for prefix in prefixes))
    return [
        f"{_COMPONENT_STORE}\\{prefix}…"
        for prefix, is_stored in zip(prefixes, stored, strict=True)
        if not is_stored
    ]


def _is_stored(image: Image, stores: Sequence[Node], prefix: str) -> bool:
    image.prefetch(*(partial(_has_entry, store, prefix) for store in stores[1:]))
    return any(_has_entry(store, prefix) for store in stores)


def _has_entry(folder: Node, prefix: str) -> bool:
    return next(folder.entries(prefix), None) is not None


def _missing_drivers(windows: WindowsInstallation, package: PackageManifest) -> list[str]:
    """Drivers that the driver store does not have."""
    missing: list[str] = []
    expected: list[str] = []
    paths = find_inf_paths(windows, [(item.inf, item.identity.version) for item in package.drivers])
    for driver, path in zip(package.drivers, paths, strict=True):
        if path:
            expected.append(path)
        else:
            missing.append(f"driver store: {driver.inf} {driver.identity.version}")
    found = windows.volume.find_many(expected)
    return missing + [path for path, node in zip(expected, found, strict=True) if node is None]


def prefetch_payload(image: Image, volume: Volume, prefix: str) -> None:
    """Read what `read_payload` reads of a volume, for packages whose names begin so."""
    for package in _find_manifests(volume, prefix):
        image.prefetch(
            partial(_missing_from_store, image, volume, package),
            *(partial(stored_infs, volume, driver.inf) for driver in package.drivers),
        )


def prefetch_drivers(windows: WindowsInstallation, prefix: str) -> None:
    """Read what `read_payload` reads of the drivers, for packages whose names begin so."""
    for package in _find_manifests(windows.volume, prefix):
        windows.image.prefetch(partial(_missing_drivers, windows, package))


def _find_manifests(volume: Volume, prefix: str) -> Iterator[PackageManifest]:
    """Parse the manifests whose file names begin with `prefix`."""
    folder = volume.find(_PACKAGES_DIRECTORY)
    if folder is None or not folder.is_directory:
        return
    names = [entry.name for entry in islice(folder.entries(prefix), _MAX_PREFETCHED)]
    nodes = volume.find_many([f"{_PACKAGES_DIRECTORY}\\{name}" for name in names])
    for name, node in zip(names, nodes, strict=True):
        if node is not None and name.lower().endswith(".mum"):
            yield _parse_manifest(node)
