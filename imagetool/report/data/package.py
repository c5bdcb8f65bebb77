"""Trees of the results of `package`: contents, summaries and checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagetool.report.data import Document, Tree, builds, error_tree

if TYPE_CHECKING:
    from imagetool.package.signature.check import Finding, MediaReport, PackageReport
    from imagetool.package.summary import MediaContents, MediaSummary, PackageSummary


@builds("package.summary.MediaContents")
def _media_contents(result: MediaContents) -> Document:
    files = [
        {"name": member.name, "size": member.size}
        | ({} if member.target is None else {"target": member.target})
        for member in result.files
    ]
    tree: Tree = {"package": result.media, "files": files, "warnings": result.warnings}
    return Document("package-list", tree)


@builds("package.summary.MediaSummary")
def _media_summary(result: MediaSummary) -> Document:
    tree: Tree = {
        "package": result.media,
        "kind": result.kind,
        "packages": [_package_summary(item) for item in result.packages],
        "warnings": result.warnings,
    }
    versions = [
        [part.manifest.identity.version for part in item.components for _ in part.manifest.services]
        for item in result.packages
    ]
    return Document("package-show", tree, {"service_versions": versions})


def _package_summary(package: PackageSummary) -> Tree:
    manifest = package.manifest
    tree: Tree = {
        "name": package.name,
        "size": package.size,
        "identity": manifest.identity,
        "version": manifest.identity.version,
        "architecture": manifest.identity.architecture,
        "identifier": manifest.identifier,
        "description": manifest.description,
        "release_type": manifest.release_type,
        "restart": manifest.restart,
        "systems": package.systems,
        "parents": manifest.parents,
        "drivers": [
            {"inf": driver.inf, "name": driver.name, "version": driver.identity.version}
            for driver in manifest.drivers
        ],
        "updated_components": [item.identity for item in manifest.components],
        "files": package.files,
    }
    if package.signature is None:
        return tree
    parts = package.components
    return tree | {
        "components": [
            {
                "identity": item.manifest.identity,
                "driver": item.manifest.is_driver,
                "directory": item.directory,
                "files": [
                    {"name": file.name, "destination": file.destination, "sha256": file.sha256}
                    for file in item.manifest.files
                ],
                "registry": [
                    {
                        "key": entry.key,
                        "name": entry.name,
                        "type": entry.type,
                        "data": entry.data,
                    }
                    for entry in item.manifest.registry
                ],
            }
            for item in parts
        ],
        "services": [
            {
                "name": item.name,
                "image_path": item.image_path,
                "start": item.start,
                "object_name": item.object_name,
            }
            for part in parts
            for item in part.manifest.services
        ],
        "signature": _finding(package.signature),
    }


@builds("package.signature.check.MediaReport")
def _media_report(result: MediaReport) -> Document:
    packages = [package_report_tree(item) for item in result.packages]
    tree: Tree = {"package": result.media, "packages": packages}
    if result.unchecked_files is not None:
        tree["unchecked_files"] = result.unchecked_files
    beside: Tree = {"started_at": result.started_at, "seconds": result.seconds}
    return Document("package-check", tree | error_tree(result.error), beside)


@builds("package.signature.check.PackageReport")
def _one_report(result: PackageReport) -> Document:
    packages = [package_report_tree(result)]
    return Document("package-check", {"package": result.package, "packages": packages})


def package_report_tree(report: PackageReport) -> Tree:
    """The findings about a package."""
    return {
        "name": report.package,
        "judgement": report.judgement.value,
        "findings": [_finding(finding) for finding in report.findings],
    }


def _finding(finding: Finding) -> Tree:
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
