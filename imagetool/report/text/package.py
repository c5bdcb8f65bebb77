"""The layouts of package media: their packages, files, and signatures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from imagetool.package import Version
from imagetool.report.data import Document
from imagetool.report.text import format_size, format_table, format_time, safe, unchecked_files


def package_list(document: Document) -> str:
    """A line for each file: size, name, and where a link leads."""
    files: Any = document.tree["files"]
    return format_table(
        (
            f"{file['size']:>12}",
            f"{file['name']} -> {file['target']}" if "target" in file else file["name"],
        )
        for file in files
    )


def package_check(document: Document) -> str:
    """Each package with its judgement, and the findings below it."""
    packages: Any = document.tree["packages"]
    unchecked: Any = document.tree.get("unchecked_files")
    text = "".join(
        f"{safe(package['name'])}: {package['judgement']}\n"
        + format_table(
            ((item["subject"], _format_finding(item)) for item in package["findings"]), indent="  "
        )
        for package in packages
    )
    if unchecked is None:
        return text
    name = safe(str(document.tree["package"]))
    return f"{text}{name}: {unchecked_files(unchecked)}\n"


def package_show(document: Document) -> str:
    """Each package as a table, with an empty line between two."""
    packages: Any = document.tree["packages"]
    versions: Any = document.beside["service_versions"]
    return "\n".join(map(_format_package, packages, versions))


def _format_package(package: Mapping[str, Any], service_versions: Iterable[Version]) -> str:
    parents = sorted({f"{parent.name} {parent.version}" for parent in package["parents"]})
    kind = f"{package['identifier']}, {package['release_type']}, restart {package['restart']}"
    rows: list[Sequence[object]] = [
        ("identity", package["identity"]),
        ("version", f"{package['version']}, {package['architecture']}"),
        ("article", kind),
        ("for", "; ".join(package["systems"]) or "any system"),
        ("parents", f"one of {len(parents)}" if parents else "none"),
        *(("", parent) for parent in parents),
    ]
    rows += [
        ("drivers" if not index else "", f"{driver['inf']:<20}  {driver['version']}")
        for index, driver in enumerate(package["drivers"])
    ]
    if "signature" in package:
        services = zip(package["services"], service_versions, strict=True)
        rows += [
            (
                "services" if not index else "",
                f"{service['name']:<20}  {version}  {service['start']}",
            )
            for index, (service, version) in enumerate(services)
        ]
        rows.append(("signature", _format_finding(package["signature"])))
    rows.append(("size", f"{format_size(package['size'])}, {package['files']} files"))
    return format_table([(package["name"],)]) + format_table(rows, indent="  ")


def _format_finding(finding: Mapping[str, Any]) -> str:
    text = f"{finding['judgement']}: {finding['reason']}"
    if finding["signer"] is None:
        return text
    signed_at = finding["signed_at"]
    when = f", {format_time(signed_at)}" if signed_at else ", at an unknown time"
    return f"{text}; {finding['signer']}, under {finding['root']}{when}"
