"""What `package show` found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imagetool.report.text import moment, safe, size, table

if TYPE_CHECKING:
    from imagetool.package import Media, Package
    from imagetool.package.signature.check import Checked, Finding


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
        "signature": _finding_data(_signature(package)),
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
    rows.append(("signature", _finding_text(_signature(package))))
    rows.append(("size", f"{size(package.size)}, {len(package.members())} files"))
    return table([(package.name,)]) + table(rows, indent="  ")


def _signature(package: Package) -> Finding:
    """Who signed the cabinet; of a folder, its catalog."""
    from imagetool.package.signature.check import check_signature

    return check_signature(package)


def checked_data(checked: Checked) -> dict[str, object]:
    """What a check found, for JSON."""
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
        "digest": signer.digest if signer else None,
    }


def _finding_text(finding: Finding) -> str:
    signer = finding.signer
    if signer is None:
        return f"{finding.judgement.value}: {finding.reason}"
    when = f", {moment(signer.signed_at)}" if signer.signed_at else ", at an unknown time"
    return f"{finding.judgement.value}: {finding.reason}; {signer.name}, under {signer.root}{when}"


def checked_text(checked: Checked) -> str:
    """What a check found, for people."""
    rows = [(item.subject, _finding_text(item)) for item in checked.findings]
    return f"{safe(checked.package)}: {checked.judgement.value}\n" + table(rows, indent="  ")


def media_text(media: Media) -> str:
    """All packages of a medium."""
    return "\n".join(package_text(package) for package in media.packages)
