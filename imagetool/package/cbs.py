"""CBS manifests: update.mum and the component manifests of Windows packages.

The meaning of the elements (namespace asm.v3) was learned from Microsoft's own packages. Parsed
without entities, document types or network; raises Corrupt, naming the manifest.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from imagetool.errors import Corrupt
from imagetool.package.component_names import component_name
from imagetool.package.identity import Identity, Version

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element, TreeBuilder

_DAMAGED = "The package is damaged: compare it with its origin."
_MAX_MANIFEST_SIZE = 8 << 20
_MAX_ELEMENTS = 100_000
_MAX_DEPTH = 64


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


def parse_package_manifest(data: bytes, name: str) -> PackageManifest:
    """Parse update.mum, or the .mum of an installed package. Raises Corrupt."""
    root = _parse(data, name)
    package = _child(root, "package")
    if package is None:
        raise Corrupt(f"{name}: the manifest describes no package", hint=_DAMAGED)
    drivers: list[DriverUpdate] = []
    components: list[ComponentUpdate] = []
    parents: list[Identity] = []
    for part in package:
        if _tag(part) == "parent":
            parents += [_identity(item, name) for item in part if _tag(item) == "assemblyIdentity"]
        if _tag(part) != "update":
            continue
        title = part.get("displayName") or part.get("name") or ""
        for item in part:
            identity = _child(item, "assemblyIdentity")
            if identity is not None and _tag(item) == "driver":
                inf = item.get("inf") or identity.get("name") or ""
                drivers.append(DriverUpdate(title, inf, _identity(identity, name)))
            if identity is not None and _tag(item) == "component":
                components.append(ComponentUpdate(title, _identity(identity, name)))
    attributes = package.attrib
    return PackageManifest(
        identity=_identity(_child(root, "assemblyIdentity"), name),
        identifier=attributes.get("identifier", ""),
        release_type=attributes.get("releaseType", ""),
        restart=attributes.get("restart", ""),
        description=root.get("description") or "",
        parents=tuple(parents),
        drivers=tuple(drivers),
        components=tuple(components),
    )


def parse_component_manifest(data: bytes, name: str) -> ComponentManifest:
    """Parse the manifest of a component or driver. Raises Corrupt."""
    root = _parse(data, name)
    own = _child(root, "assemblyIdentity")
    return ComponentManifest(
        identity=_identity(own, name),
        directory=component_name(own.attrib if own is not None else {}),
        is_driver=own is not None and own.get("type") == "driverUpdate",
        files=tuple(_files(root, name)),
        registry=tuple(_registry(root)),
        services=tuple(
            ServiceData(
                item.get("name") or "",
                item.get("imagePath") or "",
                item.get("start") or "",
                item.get("objectName") or "",
            )
            for item in root.iter()
            if _tag(item) == "serviceData"
        ),
    )


def _files(root: Element, name: str) -> Iterator[ComponentFile]:
    for item in root:
        if _tag(item) != "file":
            continue
        digest, algorithm = "", ""
        for part in item.iter():
            if _tag(part) == "DigestMethod":
                algorithm = part.get("Algorithm") or ""
            if _tag(part) == "DigestValue" and algorithm.endswith("#sha256"):
                try:
                    digest = base64.b64decode((part.text or "").strip(), validate=True).hex()
                except binascii.Error:
                    raise Corrupt(f"{name}: a digest that is no base64", hint=_DAMAGED) from None
        yield ComponentFile(item.get("name") or "", item.get("destinationPath") or "", digest)


def _registry(root: Element) -> Iterator[RegistryEntry]:
    for key in root.iter():
        if _tag(key) != "registryKey":
            continue
        path = key.get("keyName") or ""
        values = [item for item in key if _tag(item) == "registryValue"]
        if not values:
            yield RegistryEntry(path, None, "", "")
        for item in values:
            kind = item.get("valueType") or "REG_SZ"
            yield RegistryEntry(path, item.get("name") or "", kind, item.get("value") or "")


def _parse(data: bytes, name: str) -> Element:
    from xml.etree.ElementTree import ParseError

    from defusedxml.common import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser

    if len(data) > _MAX_MANIFEST_SIZE:
        raise Corrupt(f"{name}: a manifest of {len(data)} bytes", hint=_DAMAGED)
    try:
        parser = DefusedXMLParser(target=_bounded_builder(), forbid_dtd=True)
        parser.feed(data)
        root: Element = parser.close()
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Corrupt(f"{name}: the manifest is no sound XML: {reason}", hint=_DAMAGED) from None
    if _tag(root) != "assembly":
        raise Corrupt(f"{name}: the manifest describes no assembly", hint=_DAMAGED)
    return root


def _bounded_builder() -> TreeBuilder:
    from xml.etree.ElementTree import TreeBuilder

    class Builder(TreeBuilder):
        """Builds trees of a size and depth that manifests have."""

        depth = count = 0

        def start(self, tag: str, attrs: dict[str, str], /) -> Element:
            self.depth += 1
            self.count += 1
            if self.depth > _MAX_DEPTH or self.count > _MAX_ELEMENTS:
                raise ValueError("more elements, or deeper ones, than any manifest has")
            return super().start(tag, attrs)

        def end(self, tag: str, /) -> Element:
            self.depth -= 1
            return super().end(tag)

    return Builder()


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _child(element: Element, tag: str) -> Element | None:
    return next((item for item in element if _tag(item) == tag), None)


def _identity(element: Element | None, name: str) -> Identity:
    version = Version.parse(element.get("version") or "") if element is not None else None
    if element is None or version is None or not element.get("name"):
        raise Corrupt(f"{name}: the manifest does not say who it is", hint=_DAMAGED)
    language = element.get("language") or ""
    return Identity(
        name=element.get("name") or "",
        public_key_token=element.get("publicKeyToken") or "",
        architecture=(element.get("processorArchitecture") or "").lower(),
        language="" if language.lower() in ("neutral", "*") else language,
        version=version,
    )
