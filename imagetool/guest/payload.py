"""What an installed package left in the image: manifest, catalog, components, drivers.

The package's own manifest (servicing\\Packages\\<identity>.mum) lists its drivers and components.
Each has a directory in the component store whose name begins with architecture, name, token and
version, and each driver one in the driver store, which the DriverDatabase names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from imagetool.errors import Corrupt
from imagetool.filesystem import Node, Volume
from imagetool.guest.drivers import driver_places, stored_infs
from imagetool.guest.installation import Installation
from imagetool.package.identity import Identity

if TYPE_CHECKING:
    from imagetool.guest.image import Image
    from imagetool.package.cbs import PackageManifest

_SERVICING = "Windows\\servicing\\Packages"
_STORE = "Windows\\WinSxS"
_MOST = 16  # packages that are foreseen
_LARGEST_MANIFEST = 4 << 20


class Payload(NamedTuple):
    """What of a package is there; `missing` names what is not, as people look for it."""

    manifest: bool
    catalog: bool
    missing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether everything that the package installs is there."""
        return self.manifest and self.catalog and not self.missing


def read_payload(windows: Installation, identity: Identity) -> Payload:
    """What the package left in the image."""
    manifest, catalog = windows.volume.find_many(
        [f"{_SERVICING}\\{identity}.mum", f"{_SERVICING}\\{identity}.cat"]
    )
    missing: list[str] = []
    if manifest is not None:
        missing = _missing(windows, _parse(manifest))
    return Payload(manifest is not None, catalog is not None, tuple(missing))


def _parse(node: Node) -> PackageManifest:
    from imagetool.package.cbs import parse_package_manifest

    source = node.open()
    if source.size > _LARGEST_MANIFEST:
        raise Corrupt(f"{source.name}: a package manifest of {source.size} bytes")
    return parse_package_manifest(source.read_at(0, source.size), source.name)


def place_of(member: str, identity: Identity) -> str:
    """Where a file of the package `identity` belongs in an image, by its name in the package."""
    if member.lower() in ("update.mum", "update.cat"):
        return f"{_SERVICING}\\{identity}{member[-4:].lower()}"
    folder = _STORE if "/" in member else f"{_STORE}\\Manifests"
    return f"{folder}\\{member.replace('/', chr(92))}"


def store_name(identity: Identity) -> str:
    """How the directory of a component in the component store begins; a hash follows.

    Architecture, name, token and version, in lower case; a name of more than 40 characters keeps
    its first and last 19. Read in Microsoft's own packages.
    """
    name = identity.name.lower()
    if len(name) > 40:
        name = f"{name[:19]}..{name[-19:]}"
    return f"{identity.architecture}_{name}_{identity.public_key_token}_{identity.version}_"


def _missing(windows: Installation, package: PackageManifest) -> list[str]:
    image, volume = windows.image, windows.volume
    image.ahead(
        [
            partial(_not_in_store, image, volume, package),
            partial(_without_driver, windows, package),
        ]
    )
    return _not_in_store(image, volume, package) + _without_driver(windows, package)


def _not_in_store(image: Image, volume: Volume, package: PackageManifest) -> list[str]:
    """Drivers and components without a directory or manifest in the component store."""
    folders = volume.find_many([_STORE, f"{_STORE}\\Manifests"])
    # A deployment component has a manifest, and no directory of its own.
    stores = [node for node in folders if node is not None and node.is_directory]
    updates = [driver.identity for driver in package.drivers]
    prefixes = [
        store_name(identity)
        for identity in updates + [component.identity for component in package.components]
    ]
    image.ahead(partial(_is_stored, [store], prefix) for store in stores for prefix in prefixes)
    return [f"{_STORE}\\{prefix}…" for prefix in prefixes if not _is_stored(stores, prefix)]


def _is_stored(stores: Sequence[Node], prefix: str) -> bool:
    return any(True for store in stores for _ in store.entries(prefix))


def _without_driver(windows: Installation, package: PackageManifest) -> list[str]:
    """Drivers that the driver store does not have."""
    missing: list[str] = []
    wanted: list[str] = []
    places = driver_places(windows, [(item.inf, item.identity.version) for item in package.drivers])
    for driver, place in zip(package.drivers, places, strict=True):
        if place:
            wanted.append(place)
        else:
            missing.append(f"driver store: {driver.inf} {driver.identity.version}")
    found = windows.volume.find_many(wanted)
    return missing + [path for path, node in zip(wanted, found, strict=True) if node is None]


def foresee(image: Image, volume: Volume, prefix: str) -> None:
    """Read what `read_payload` will of the volume, before anybody knows whether it is Windows."""
    for package in _by_name(volume, prefix):
        image.ahead([partial(_not_in_store, image, volume, package)])
        image.ahead(partial(stored_infs, volume, driver.inf) for driver in package.drivers)


def foresee_payload(windows: Installation, prefix: str) -> None:
    """Read what `read_payload` will, before anybody knows which packages the registry lists."""
    for package in _by_name(windows.volume, prefix):
        windows.image.ahead([partial(_without_driver, windows, package)])


def _by_name(volume: Volume, prefix: str) -> Iterator[PackageManifest]:
    """The manifests of packages, found by the names of their files."""
    folder = volume.find(_SERVICING)
    if folder is None or not folder.is_directory:
        return
    names = [entry.name for entry, _ in zip(folder.entries(prefix), range(_MOST), strict=False)]
    nodes = volume.find_many([f"{_SERVICING}\\{name}" for name in names])
    for name, node in zip(names, nodes, strict=True):
        if node is not None and name.lower().endswith(".mum"):
            yield _parse(node)
