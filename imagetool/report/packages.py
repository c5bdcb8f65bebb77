"""Results of `package show` and `package check` as text and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imagetool.report.text import format_size, format_table, format_time, safe

if TYPE_CHECKING:
    from imagetool.package import Media, Package
    from imagetool.package.signature.check import Finding, PackageReport


_SYSTEMS = {
    (6, 0): "Windows Vista, Server 2008",
    (6, 1): "Windows 7, Server 2008 R2",
    (6, 2): "Windows 8, Server 2012",
    (6, 3): "Windows 8.1, Server 2012 R2",
}


def _systems(package: Package) -> list[str]:
    """The names of the Windows versions whose packages are its parents."""
    versions = sorted({parent.version[:2] for parent in package.manifest.parents})
    return [_SYSTEMS.get(item, f"Windows {item[0]}.{item[1]}") for item in versions]


def package_data(package: Package, *, brief: bool = False) -> dict[str, object]:
    """A package, for JSON; the brief form has the contents of update.mum only."""
    manifest = package.manifest
    data: dict[str, object] = {
        "name": package.name,
        "size": package.size,
        "identity": package.identity,
        "version": package.version,
        "architecture": package.architecture,
        "identifier": manifest.identifier,
        "description": manifest.description,
        "release_type": manifest.release_type,
        "restart": manifest.restart,
        "systems": _systems(package),
        "parents": manifest.parents,
        "drivers": [
            {"inf": driver.inf, "name": driver.name, "version": driver.identity.version}
            for driver in manifest.drivers
        ],
        "updated_components": [item.identity for item in manifest.components],
        "files": len(package.members()),
    }
    if brief:
        return data
    components = package.components()
    services = [service for item in components for service in item.manifest.services]
    return data | {
        "components": [
            {
                "identity": item.manifest.identity,
                "driver": item.manifest.is_driver,
                "directory": item.directory,
                "files": [file._asdict() for file in item.manifest.files],
                "registry": [entry._asdict() for entry in item.manifest.registry],
            }
            for item in components
        ],
        "services": [service._asdict() for service in services],
        "signature": _finding_data(_signature(package)),
    }


def package_text(package: Package, *, brief: bool = False) -> str:
    """A package, as text; the brief form has the contents of update.mum only."""
    manifest = package.manifest
    parents = sorted({f"{p.name} {p.version}" for p in manifest.parents})
    kind = f"{manifest.identifier}, {manifest.release_type}, restart {manifest.restart}"
    rows: list[Sequence[object]] = [
        ("identity", package.identity),
        ("version", f"{package.version}, {package.architecture}"),
        ("article", kind),
        ("for", "; ".join(_systems(package)) or "any system"),
        ("parents", f"one of {len(parents)}" if parents else "none"),
        *(("", parent) for parent in parents),
    ]
    rows += [
        ("drivers" if not index else "", f"{driver.inf:<20}  {driver.identity.version}")
        for index, driver in enumerate(manifest.drivers)
    ]
    if not brief:
        services = [
            (service, item.manifest.identity.version)
            for item in package.components()
            for service in item.manifest.services
        ]
        rows += [
            ("services" if not index else "", f"{service.name:<20}  {version}  {service.start}")
            for index, (service, version) in enumerate(services)
        ]
        rows.append(("signature", _finding_text(_signature(package))))
    rows.append(("size", f"{format_size(package.size)}, {len(package.members())} files"))
    return format_table([(package.name,)]) + format_table(rows, indent="  ")


def _signature(package: Package) -> Finding:
    """The finding on the signature of the cabinet; of a folder, on its catalog."""
    from imagetool.package.signature.check import check_signature

    return check_signature(package)


def package_report_data(checked: PackageReport) -> dict[str, object]:
    """The result of a check, for JSON."""
    return {
        "name": checked.package,
        "judgement": checked.judgement.value,
        "findings": [_finding_data(item) for item in checked.findings],
    }


def _finding_data(finding: Finding) -> dict[str, object]:
    signer = finding.signer
    return {
        "subject": finding.subject,
        "judgement": finding.judgement.value,
        "reason": finding.reason,
        "signer": signer.name if signer else None,
        "root": signer.root if signer else None,
        "signed_at": signer.signed_at if signer else None,
        "digest": signer.digest_algorithm if signer else None,
    }


def _finding_text(finding: Finding) -> str:
    signer = finding.signer
    if signer is None:
        return f"{finding.judgement.value}: {finding.reason}"
    when = f", {format_time(signer.signed_at)}" if signer.signed_at else ", at an unknown time"
    return f"{finding.judgement.value}: {finding.reason}; {signer.name}, under {signer.root}{when}"


def package_report_text(checked: PackageReport) -> str:
    """The result of a check, as text."""
    rows = [(item.subject, _finding_text(item)) for item in checked.findings]
    return f"{safe(checked.package)}: {checked.judgement.value}\n" + format_table(rows, indent="  ")


def media_text(media: Media, *, brief: bool = False) -> str:
    """All packages of a medium, as text."""
    return "\n".join(package_text(package, brief=brief) for package in media.packages)
