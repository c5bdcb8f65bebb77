"""The files of an installed package in the image: manifest, catalog, components, drivers.

The package's own manifest (servicing\\Packages\\<identity>.mum) lists its drivers and components.
Each has a manifest in the component store whose name begins with architecture, name, token and
version, and each driver a directory of such a name with its INF in it. Each driver has a directory
in the driver store as well, named in the DriverDatabase. Of the boot drivers both directories hold
the same programs. The content of files is not looked at: only that they are there, and not empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from imagetool.errors import Corrupt
from imagetool.filesystem import Entry, Node, Volume
from imagetool.guest.windows.drivers import find_inf_paths, stored_infs
from imagetool.guest.windows.installation import WindowsInstallation
from imagetool.package.identity import Identity, Version

if TYPE_CHECKING:
    from imagetool.guest.image import Image
    from imagetool.package.cbs import PackageManifest

_PACKAGES_DIRECTORY = "Windows\\servicing\\Packages"
_COMPONENT_STORE = "Windows\\WinSxS"
_BOOT_DRIVER_INFS = ("wvmbus.inf", "wstorvsc.inf", "wstorflt.inf")
_MAX_PREFETCHED = 16  # packages
_MAX_MANIFEST_SIZE = 4 << 20


class PayloadStatus(NamedTuple):
    """Presence of a package's files; `missing` lists what is not there, or has 0 bytes."""

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
    if manifest is not None and manifest.size:
        package = _parse_manifest(manifest)
        if _essentials(package.identity) != _essentials(identity):
            missing.append(f"the identity {identity} in {manifest.path}")
        if not package.drivers:
            missing.append(f"the list of drivers in {manifest.path}")
        missing += _missing_files(windows, package)
    return PayloadStatus(_has_content(manifest), _has_content(catalog), tuple(missing))


def _essentials(identity: Identity) -> tuple[str, str, Version]:
    return identity.name.lower(), identity.architecture.lower(), identity.version


def _has_content(node: Node | None) -> bool:
    return node is not None and not node.is_directory and node.size > 0


def _parse_manifest(node: Node) -> PackageManifest:
    from imagetool.package.cbs import parse_package_manifest

    source = node.open()
    if source.size > _MAX_MANIFEST_SIZE:
        raise Corrupt(f"{source.name}: a package manifest of {source.size} bytes")
    return parse_package_manifest(source.read_at(0, source.size), source.name, source.budget)


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
    (not_in_store, programs), without_driver = image.gather(
        partial(_look_into_store, image, windows.volume, package),
        partial(_missing_drivers, windows, package),
    )
    missing = not_in_store + without_driver.missing
    for inf, folder in without_driver.folders.items():
        found = _programs(windows.volume, folder)
        missing += [f"{folder}\\{name}" for name in sorted(programs.get(inf, set()) - found)]
    return missing


def _look_into_store(
    image: Image, volume: Volume, package: PackageManifest
) -> tuple[list[str], dict[str, set[str]]]:
    """What the component store lacks, and the programs that it has of each boot driver."""
    folders = volume.find_many([_COMPONENT_STORE, f"{_COMPONENT_STORE}\\Manifests"])
    items = [(driver.identity, driver.inf) for driver in package.drivers]
    items += [(component.identity, "") for component in package.components]
    found = image.gather(*(partial(_look_for, image, volume, folders, *item) for item in items))
    missing = [gap for gaps, _ in found for gap in gaps]
    return missing, {
        inf.lower(): programs for (_, inf), (_, programs) in zip(items, found, strict=True) if inf
    }


def _look_for(
    image: Image, volume: Volume, folders: Sequence[Node | None], identity: Identity, inf: str
) -> tuple[list[str], set[str]]:
    """What the store lacks of a component or driver; a component may have no directory."""
    prefix = store_directory_prefix(identity)
    store, manifests = image.gather(*(partial(_entries, folder, prefix) for folder in folders))
    missing: list[str] = []
    if not any(_is_filled(volume, f"{_COMPONENT_STORE}\\Manifests", item) for item in manifests):
        missing.append(f"{_COMPONENT_STORE}\\Manifests\\{prefix}….manifest")
    if not inf:
        return missing, set()
    names = [entry.name for entry in store if entry.is_directory]
    if not names:
        return [*missing, f"{_COMPONENT_STORE}\\{prefix}…"], set()
    programs: set[str] = set()
    infs = 0
    for folder in (f"{_COMPONENT_STORE}\\{name}" for name in names):
        infs += _has_content(volume.find(f"{folder}\\{inf}"))
        if inf.lower() in _BOOT_DRIVER_INFS:
            programs |= _programs(volume, folder)
    if not infs:
        missing.append(f"{_COMPONENT_STORE}\\{prefix}…\\{inf}")
    elif inf.lower() in _BOOT_DRIVER_INFS and not programs:
        missing.append(f"{_COMPONENT_STORE}\\{prefix}…\\*.sys")
    return missing, programs


def _entries(folder: Node | None, prefix: str) -> list[Entry]:
    return list(folder.entries(prefix)) if folder is not None and folder.is_directory else []


def _is_filled(volume: Volume, folder: str, entry: Entry) -> bool:
    """True for a file with content; where the directory says 0 bytes, the file is asked."""
    if entry.is_directory:
        return False
    return entry.size > 0 or _has_content(volume.find(f"{folder}\\{entry.name}"))


def _programs(volume: Volume, folder: str) -> set[str]:
    """The names of the drivers in a directory that are not empty, in lower case."""
    return {
        entry.name.lower()
        for entry in _entries(volume.find(folder), "")
        if entry.name.lower().endswith(".sys") and _is_filled(volume, folder, entry)
    }


class _StoredDrivers(NamedTuple):
    """What the driver store lacks, and the directory there of each boot driver's INF."""

    missing: list[str]
    folders: dict[str, str]


def _missing_drivers(windows: WindowsInstallation, package: PackageManifest) -> _StoredDrivers:
    """Drivers that the driver store does not have."""
    missing: list[str] = []
    expected: list[str] = []
    folders: dict[str, str] = {}
    paths = find_inf_paths(windows, [(item.inf, item.identity.version) for item in package.drivers])
    for driver, path in zip(package.drivers, paths, strict=True):
        if not path:
            missing.append(f"driver store: {driver.inf} {driver.identity.version}")
            continue
        expected.append(path)
        if driver.inf.lower() in _BOOT_DRIVER_INFS:
            folders[driver.inf.lower()] = path.rpartition("\\")[0]
    found = windows.volume.find_many(expected)
    missing += [path for path, node in zip(expected, found, strict=True) if not _has_content(node)]
    windows.image.prefetch(
        *(partial(_programs, windows.volume, folder) for folder in folders.values())
    )
    return _StoredDrivers(missing, folders)


def prefetch_payload(image: Image, volume: Volume, prefix: str) -> None:
    """Read what `read_payload` reads of a volume, for packages whose names begin so."""
    for package in _find_manifests(volume, prefix):
        image.prefetch(
            partial(_look_into_store, image, volume, package),
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
