"""CBS manifests: update.mum and the component manifests of Windows packages.

The meaning of the elements (namespace asm.v3) was learned from Microsoft's own packages. Raises
Corrupt, naming the manifest.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from typing import NamedTuple

from imagetool.budget import Budget
from imagetool.errors import Corrupt
from imagetool.package.component_names import component_name
from imagetool.package.identity import Identity, Version
from imagetool.package.manifest_xml import DAMAGED, ManifestElement, parse_manifest


class DriverUpdate(NamedTuple):
    """A driver that a package installs (element `driver`)."""

    name: str
    inf: str
    identity: Identity


class ComponentUpdate(NamedTuple):
    """A component that a package installs (element `component`)."""

    name: str
    identity: Identity


class PackageManifest(NamedTuple):
    """The content of update.mum: identity, parents, drivers and components of a package."""

    identity: Identity
    identifier: str
    """The knowledge base article, such as KB4072650."""
    release_type: str
    restart: str
    description: str
    parents: tuple[Identity, ...]
    """The package applies where any one of them is installed."""
    drivers: tuple[DriverUpdate, ...]
    components: tuple[ComponentUpdate, ...]


class ComponentFile(NamedTuple):
    """A file of a component."""

    name: str
    destination: str
    """The directory it is projected to, such as $(runtime.system32)\\; empty for none."""
    sha256: str
    """In hexadecimal; empty if the manifest states no SHA-256."""


class RegistryEntry(NamedTuple):
    """A registry value that a component sets; a key without values has the name None."""

    key: str
    name: str | None
    type: str
    data: str


class ServiceData(NamedTuple):
    """A service that a component defines (element `serviceData`)."""

    name: str
    image_path: str
    start: str
    object_name: str


class ComponentManifest(NamedTuple):
    """The content of the manifest of a component or driver.

    `directory` is the name that its directory must have, and its manifest before the suffix.
    """

    identity: Identity
    directory: str
    is_driver: bool
    files: tuple[ComponentFile, ...]
    registry: tuple[RegistryEntry, ...]
    services: tuple[ServiceData, ...]


def parse_package_manifest(data: bytes, name: str, budget: Budget) -> PackageManifest:
    """Parse update.mum, or the .mum of an installed package. Raises Corrupt."""
    root = parse_manifest(data, name, budget)
    package = root.child("package")
    if package is None:
        raise Corrupt(f"{name}: the manifest describes no package", hint=DAMAGED)
    drivers: list[DriverUpdate] = []
    components: list[ComponentUpdate] = []
    parents: list[Identity] = []
    for part in package.children:
        if part.name == "parent":
            parents += [
                _identity(item, name) for item in part.children if item.name == "assemblyIdentity"
            ]
        if part.name != "update":
            continue
        title = part.get("displayName") or part.get("name")
        for item in part.children:
            identity = item.child("assemblyIdentity")
            if identity is not None and item.name == "driver":
                inf = item.get("inf") or identity.get("name")
                drivers.append(DriverUpdate(title, inf, _identity(identity, name)))
            if identity is not None and item.name == "component":
                components.append(ComponentUpdate(title, _identity(identity, name)))
    return PackageManifest(
        identity=_identity(root.child("assemblyIdentity"), name),
        identifier=package.get("identifier"),
        release_type=package.get("releaseType"),
        restart=package.get("restart"),
        description=root.get("description"),
        parents=tuple(parents),
        drivers=tuple(drivers),
        components=tuple(components),
    )


def parse_component_manifest(data: bytes, name: str, budget: Budget) -> ComponentManifest:
    """Parse the manifest of a component or driver. Raises Corrupt."""
    root = parse_manifest(data, name, budget)
    own = root.child("assemblyIdentity")
    return ComponentManifest(
        identity=_identity(own, name),
        directory=component_name(own.attributes if own is not None else {}),
        is_driver=own is not None and own.get("type") == "driverUpdate",
        files=tuple(_files(root, name)),
        registry=tuple(_registry(root)),
        services=tuple(
            ServiceData(
                item.get("name"),
                item.get("imagePath"),
                item.get("start"),
                item.get("objectName"),
            )
            for item in root.walk()
            if item.name == "serviceData"
        ),
    )


def _files(root: ManifestElement, name: str) -> Iterator[ComponentFile]:
    for item in root.children:
        if item.name != "file":
            continue
        digest, algorithm = "", ""
        for part in item.walk():
            if part.name == "DigestMethod":
                algorithm = part.get("Algorithm")
            if part.name == "DigestValue" and algorithm.endswith("#sha256"):
                try:
                    digest = binascii.a2b_base64(part.text.strip(), strict_mode=True).hex()
                except ValueError:
                    raise Corrupt(f"{name}: a digest that is no base64", hint=DAMAGED) from None
        yield ComponentFile(item.get("name"), item.get("destinationPath"), digest)


def _registry(root: ManifestElement) -> Iterator[RegistryEntry]:
    for key in root.walk():
        if key.name != "registryKey":
            continue
        path = key.get("keyName")
        values = [item for item in key.children if item.name == "registryValue"]
        if not values:
            yield RegistryEntry(path, None, "", "")
        for item in values:
            kind = item.get("valueType") or "REG_SZ"
            yield RegistryEntry(path, item.get("name"), kind, item.get("value"))


def _identity(element: ManifestElement | None, name: str) -> Identity:
    version = Version.parse(element.get("version")) if element is not None else None
    if element is None or version is None or not element.get("name"):
        raise Corrupt(f"{name}: the manifest does not say who it is", hint=DAMAGED)
    language = element.get("language")
    return Identity(
        name=element.get("name"),
        public_key_token=element.get("publicKeyToken"),
        architecture=element.get("processorArchitecture").lower(),
        language="" if language.lower() in ("neutral", "*") else language,
        version=version,
    )
