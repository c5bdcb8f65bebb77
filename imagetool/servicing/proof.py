"""Proof of a serviced copy by imagetool's own readers, before it gets its final name."""

from __future__ import annotations

import hashlib
from pathlib import Path

from imagetool.errors import ImagetoolError, ServicingFailed
from imagetool.guest.image import open_image
from imagetool.guest.windows.components import INSTALL_PENDING, INSTALLED, PERMANENT
from imagetool.guest.windows.installation import WindowsInstallation
from imagetool.guest.windows.payload import installed_path
from imagetool.package import Package, open_package
from imagetool.servicing.plan import Plan, read_disk_identity
from imagetool.verdict.verify import Criteria, Verification, verify


def prove(image: Path, plan: Plan, package: Path) -> Verification:
    """Prove that the package is in the image, byte for byte, and the disk's identifiers are kept.

    Raises ServicingFailed at the first difference.
    """
    try:
        return _prove(image, plan, package)
    except ServicingFailed:
        raise
    except ImagetoolError as error:
        raise ServicingFailed(
            f"the serviced copy cannot be read back: {error.message}",
            hint="The image is as it was; look at the host's DISM log.",
        ) from None


def _prove(image: Path, plan: Plan, package: Path) -> Verification:
    found = read_disk_identity(image)
    if found != plan.disk_identity:
        raise _proof_failed(f"its identifiers changed from {plan.disk_identity} to {found}")
    with open_package(package) as media, open_image(image) as opened:
        windows = opened.windows(plan.volume)
        chosen = next(item for item in media.packages if item.name == plan.package)
        _prove_files(windows, chosen)
        result = verify(opened, Criteria(media=[media], require="installed"), volume=plan.volume)
    states = {item.identity: item.state for item in result.components.packages}
    if states.get(plan.identity) not in (INSTALL_PENDING, INSTALLED, PERMANENT):
        raise _proof_failed(f"{plan.identity} is not among its installed packages")
    gaps = [
        gap
        for item in result.components.packages
        if item.identity == plan.identity and item.payload is not None
        for gap in item.payload.missing
    ]
    if gaps:
        raise _proof_failed(f"{gaps[0]} is missing")
    if not result.verdict.installed:
        reasons = "; ".join(result.verdict.reasons)
        raise _proof_failed(f"the verdict is {result.verdict.outcome.value}: {reasons}")
    return result


def _prove_files(windows: WindowsInstallation, package: Package) -> None:
    """Compare the SHA-256 of every file of the package with the installed file."""
    members = package.members()
    paths = [installed_path(member.name, package.identity) for member in members]
    for member, path, node in zip(members, paths, windows.volume.find_many(paths), strict=True):
        if node is None:
            raise _proof_failed(f"{path} is missing")
        source = node.open()
        digest = hashlib.sha256(source.read_at(0, source.size)).digest()
        if digest != hashlib.sha256(package.read(member.name)).digest():
            raise _proof_failed(f"{path} has other bytes than the package")


def _proof_failed(what: str) -> ServicingFailed:
    return ServicingFailed(
        f"the serviced copy is not what it must be: {what}",
        hint="The image is as it was; look at the host's DISM log.",
    )
