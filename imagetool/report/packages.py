"""What `package show` found."""

from __future__ import annotations

from collections.abc import Sequence

from imagetool.package import Media, Package
from imagetool.report.text import size, table


def package_data(package: Package) -> dict[str, object]:
    """A package, for JSON."""
    manifest = package.manifest
    components = package.components()
    services = [service for item in components for service in item.manifest.services]
    return {
        "name": package.name,
        "size": package.size,
        "identity": package.identity,
        "version": package.version,
        "architecture": package.architecture,
        "identifier": manifest.identifier,
        "description": manifest.description,
        "release_type": manifest.release_type,
        "restart": manifest.restart,
        "parents": manifest.parents,
        "drivers": [
            {"inf": driver.inf, "name": driver.name, "version": driver.identity.version}
            for driver in manifest.drivers
        ],
        "components": [component.identity for component in manifest.components],
        "services": [{"name": item.name, "start": item.start} for item in services],
        "files": len(package.members()),
    }


def package_text(package: Package) -> str:
    """A package, for people."""
    manifest = package.manifest
    services = [s.name for item in package.components() for s in item.manifest.services]
    systems = sorted({f"{p.name} {p.version}" for p in manifest.parents})
    rows: list[Sequence[object]] = [
        ("identity", package.identity),
        ("article", f"{manifest.identifier}, {manifest.release_type}, restart {manifest.restart}"),
        ("for", systems[0] if systems else "any system"),
        *(("", f"or {system}") for system in systems[1:]),
        ("drivers", f"{len(manifest.drivers)}: {', '.join(d.inf for d in manifest.drivers)}"),
    ]
    if services:
        rows.append(("services", f"{len(services)}: {', '.join(services)}"))
    rows.append(("size", f"{size(package.size)}, {len(package.members())} files"))
    return table([(package.name,)]) + table(rows, indent="  ")


def media_text(media: Media) -> str:
    """All packages of a medium."""
    return "\n".join(package_text(package) for package in media.packages)
