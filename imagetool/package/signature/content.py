"""The files of a package against its lists: each listed by name, each listed one there, once.

The catalog lists digests: of update.mum, every manifest and, in Microsoft's, of every setup file
and program. Each manifest lists the payload of its component by name and SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from imagetool.package.cbs import parse_component_manifest, parse_package_manifest
from imagetool.package.signature.authenticode import program_digest
from imagetool.package.signature.catalog import Catalog, ListedFile

if TYPE_CHECKING:
    from imagetool.package.cbs import ComponentFile
    from imagetool.package.identity import Identity
    from imagetool.package.media import Package

CATALOG, UPDATE = "update.cat", "update.mum"
_MAX_REASONS = 20
_MAX_SIZE = 256 << 20
"""The sum of all files: many members may be the same bytes."""


def name_key(name: str) -> str:
    """Return what Windows compares of a name; lists hold ASCII names only, so others stay apart.

    Two names of one key are one for Windows. A name counts as it is listed, or in lower case, as
    Microsoft's packages have what their manifests write in both.
    """
    return name.lower() if name.isascii() else name


def find_faults(package: Package, catalog: Catalog) -> list[str]:
    """Find what no list vouches for, and what a list has and the package has not."""
    found: list[str] = []
    for reason in _faults(package, catalog):
        if len(found) == _MAX_REASONS:
            return [*found, "there is more of this kind"]
        found.append(reason)
    return found


def _faults(package: Package, catalog: Catalog) -> Iterator[str]:
    irregular, members = package.irregular(), package.members()
    for name, kind in irregular:
        yield f"{name} is {kind}"
    size = sum(member.size for member in members)
    if size > _MAX_SIZE:
        yield f"its files are {size} bytes in all, of which nobody can vouch for so many"
        return
    names: dict[str, str] = {}
    for member in members:
        key = name_key(member.name)
        if key in names:
            yield f"{names[key]} and {member.name} are one name"
        names.setdefault(key, member.name)
    if irregular or len(names) < len(members):
        return  # a name is not enough to know what would be installed
    missing = set(catalog.files)
    vouched: set[str] = set()
    payload: dict[str, ComponentFile] = {}
    present: set[tuple[str, str]] = set()
    updates: list[Identity] = []
    data_of = {}
    for key, name in names.items():
        if "/" in name or not key.endswith((".mum", ".manifest")):
            continue
        data = data_of[key] = package.read(name)
        package.budget.spend(f"{package.name}: {name}", 0, len(data))
        vouched.add(key)
        if not _forms(data) & catalog.files:
            yield f"{name} is not in the catalog"
            continue
        where = f"{package.name}: {name}"
        if key.endswith(".mum"):
            manifest = parse_package_manifest(data, where, package.budget)
            updates += [item.identity for item in manifest.drivers]
            updates += [item.identity for item in manifest.components]
            if name == UPDATE and manifest.identity != package.identity:
                yield f"{name} changed while it was read"
            if name != UPDATE:
                yield f"{name} describes a package of its own"
            continue
        component = parse_component_manifest(data, where, package.budget)
        directory = name[: -len(".manifest")]
        present.add(_short(component.identity))
        if name != f"{component.directory}.manifest":
            yield f"{name} describes {component.identity.name}, and not what its name says"
        for file in component.files:
            path = f"{directory}/{file.name}".replace("\\", "/")
            if payload.setdefault(name_key(path), file) is not file:
                yield f"{path} is listed twice"
            found = names.get(name_key(path))
            if found is None:
                yield f"{path} is missing"
            elif found not in (path, f"{directory}/{path[len(directory) + 1 :].lower()}"):
                yield f"{found} is listed as {path}"
    for identity in updates:
        if _short(identity) not in present:
            yield f"{UPDATE} names {identity.name}, whose manifest is missing"
    for key, name in names.items():
        if name == CATALOG:
            continue
        if key in payload:
            vouched.add(key)
            data = package.read(name)
            stated = payload[key].sha256
            if not stated:
                yield f"{name}: its manifest states no SHA-256"
            elif hashlib.sha256(data).hexdigest() != stated:
                yield f"{name} has other bytes than its manifest states"
        elif key not in vouched:
            yield f"{name} is in no list"
            continue
        else:
            data = data_of[key]
        missing -= _forms(data)
    if missing:
        digest = min(item.digest.hex() for item in missing)
        yield (
            f"{CATALOG} lists {len(missing)} files that are not there, one with the digest {digest}"
        )


def _forms(data: bytes) -> set[ListedFile]:
    """Return the forms in which a catalog may list a file."""
    found = set()
    for algorithm in ("sha1", "sha256"):
        found.add(ListedFile(False, algorithm, hashlib.new(algorithm, data).digest()))
        digest = program_digest(data, algorithm) if data[:2] == b"MZ" else None
        if digest is not None:
            found.add(ListedFile(True, algorithm, digest))
    return found


def _short(identity: Identity) -> tuple[str, str]:
    return identity.name.lower(), f"{identity.architecture} {identity.version}"
