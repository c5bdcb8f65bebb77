"""The plan of an injection, made before anything is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagetool.errors import DoesNotApply, Unsupported
from imagetool.guest.image import open_image
from imagetool.guest.windows.boot import boot_faults
from imagetool.guest.windows.components import INSTALL_PENDING
from imagetool.package import Identity, open_package
from imagetool.package.media import package_in_cabinet
from imagetool.package.signature.check import Judgement, PackageReport, check_package
from imagetool.verdict.applicability import Rule, choose
from imagetool.verdict.verify import read_evidence

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_MAX_PACKAGE_SIZE = 256 << 20


@dataclass(frozen=True, slots=True)
class DiskIdentity:
    """The identifiers by which a guest knows its disk; servicing must not change them."""

    disk_id: str
    table_id: str
    partition_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The package to inject, the Windows that gets it, and the reason for the choice."""

    image: str
    media: str
    package: str
    """The name of the package in the media."""
    identity: Identity
    cabinet: bytes
    """The bytes of the cabinet, as uploaded to the host."""
    signature: PackageReport | None
    """The findings on those bytes; None where there is nothing to do."""
    product: str
    volume: int
    partition_offset: int
    """The offset of the Windows partition in bytes; 0 without a partition table."""
    disk_identity: DiskIdentity
    reason: str
    """The rule that chose the package, and its explanation."""
    nothing_to_do: bool


def make_plan(
    image: Path,
    package: Path,
    volume: int | None = None,
    *,
    allow_unsigned: bool = False,
    trusted: Sequence[Certificate] = (),
) -> Plan:
    """Make the plan.

    Raises DoesNotApply where no package fits, the guest must boot first or could not boot on
    Hyper-V, or the package is not genuine; `allow_unsigned` lets one pass that is unsigned, or
    signed by somebody unknown, and `trusted` are roots beside Microsoft's.
    """
    with open_package(package) as media, open_image(image) as opened:
        if opened.disk.chain:
            raise Unsupported(
                f"{image}: a differencing disk is not serviced yet",
                hint="Merge it into its parent, or copy the chain into one disk (Convert-VHD).",
            )
        windows = opened.windows(volume)
        evidence = read_evidence(windows, media.packages)
        choice = choose(media.packages, evidence)
        # A guest with in-box components needs nothing, whatever the package is for.
        own = [item for item in choice.fits if item.rule is Rule.IN_BOX]
        chosen = choice.fit or (own[0] if own else None)
        if chosen is None:
            raise DoesNotApply(
                f"{image}: no package of {package} fits this guest: {choice.refusal}",
                hint="`imagetool package show` says for which systems its packages are.",
            )
        if chosen.applies:
            _check_pending(
                image,
                [
                    p.identity
                    for p in evidence.guest.evidence.packages
                    if p.state == INSTALL_PENDING
                ],
            )
            _check_boot(image, boot_faults(evidence.guest.facts, evidence.guest.evidence))
        if chosen.package.size > _MAX_PACKAGE_SIZE:
            raise DoesNotApply(f"{chosen.package.name}: a package of {chosen.package.size} bytes")
        partition = windows.block_device.partition
        cabinet = chosen.package.read_cabinet()
        signature = None
        if chosen.applies:
            # Not the package that was opened: the very bytes that will be staged.
            staged = package_in_cabinet(cabinet, chosen.package.name)
            staged.disc_doubts = chosen.package.disc_doubts
            signature = check_package(staged, trusted)
            _check_genuine(package, signature, allow_unsigned)
        return Plan(
            image=str(image),
            media=str(package),
            package=chosen.package.name,
            identity=chosen.package.identity,
            cabinet=cabinet,
            signature=signature,
            product=evidence.guest.name,
            volume=windows.block_device.number,
            partition_offset=partition.offset if partition is not None else 0,
            disk_identity=read_disk_identity(image),
            reason=f"{chosen.rule.value}: {chosen.explanation}",
            nothing_to_do=not chosen.applies,
        )


def _check_genuine(media: Path, report: PackageReport, allow_unsigned: bool) -> None:
    judgement = report.judgement
    unsigned = judgement in (Judgement.UNSIGNED, Judgement.UNKNOWN_SIGNER)
    if judgement is Judgement.GENUINE or (unsigned and allow_unsigned):
        return
    raise DoesNotApply(
        f"{media}: {report.package} is {judgement.value}, and does not go into an image: "
        f"{report.worst.reason}",
        hint="--trust FILE names the root that it is signed under; --allow-unsigned takes it as it "
        "is."
        if unsigned
        else "Take it from its origin again; `imagetool package check` shows every finding.",
    )


def _check_pending(image: Path, pending: list[Identity]) -> None:
    if pending:
        raise DoesNotApply(
            f"{image}: {pending[0]} is waiting for the guest's next boot",
            hint="Boot the guest once, or start again from a template without it.",
        )


def _check_boot(image: Path, faults: Sequence[str]) -> None:
    """Refuse a guest that would be `disabled` afterwards: the proof refuses it after the work."""
    if faults:
        raise DoesNotApply(
            f"{image}: this guest's verdict is disabled, and a package does not change that: "
            f"{faults[0]}",
            hint="Set that right in the guest first, or start again from a template without it.",
        )


def read_disk_identity(image: Path) -> DiskIdentity:
    """Read the disk's identifiers from the file."""
    with open_image(image) as opened:
        return DiskIdentity(
            disk_id=opened.disk.identifiers.get("VirtualDiskId", ""),
            table_id=opened.partition_table.identifier,
            partition_ids=tuple(item.identifier for item in opened.partition_table.partitions),
        )
