"""Planning of an injection: reads the image and the package, and changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from imagetool.errors import DoesNotApply, Unsupported
from imagetool.guest.image import Image, open_image
from imagetool.guest.windows.boot import boot_faults
from imagetool.guest.windows.components import INSTALL_PENDING
from imagetool.guest.windows.prefetch import prefetch_windows
from imagetool.location import Location
from imagetool.package.media import Media, Package, open_package, package_in_cabinet
from imagetool.package.signature.check import Judgement, PackageReport, check_package
from imagetool.servicing.image_state import RecordingFiles
from imagetool.servicing.payloads.integration_services import IntegrationServices
from imagetool.servicing.plan import Plan, PlannedImage, read_disk_identity
from imagetool.servicing.strategies import Strategy
from imagetool.verdict.applicability import Fit, Rule, choose
from imagetool.verdict.verify import Evidence, read_evidence

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_MAX_PACKAGE_SIZE = 256 << 20
_SERVED_FORMATS = ("VHDX", "VHD")


class Target(NamedTuple):
    """The host that is to do the work, and the paths of image and output there."""

    host: str
    image: str
    output: str


class Prepared(NamedTuple):
    """A plan, what it puts in, and the findings on the signature of the latter."""

    plan: Plan
    payload: IntegrationServices
    signature: PackageReport | None
    """None where there is nothing to do."""


def prepare(
    image: Location,
    package: str | Path,
    target: Target,
    strategy: Strategy,
    volume: int | None = None,
    *,
    name: str = "",
    allow_unsigned: bool = False,
    trusted: Sequence[Certificate] = (),
) -> Prepared:
    """Make the plan. Image and package are opened once.

    `image` is given by its whole path; `name` is its name in messages, by default that path.

    Raises DoesNotApply where no package fits, the guest must boot first or could not boot on
    Hyper-V, or the package is not genuine; `allow_unsigned` lets one pass that is unsigned, or
    signed by somebody unknown, and `trusted` are roots beside Microsoft's. Raises Unsupported for
    an image that no host mounts.
    """
    if image.failure is not None:
        raise image.failure
    files = RecordingFiles(image.files, image.path)
    with open_package(package) as media, open_image(image.path, files=files) as opened:
        _check_format(opened)
        with opened.budget:
            chosen, evidence = _choose(opened, media, volume)
        windows = opened.windows(volume)
        partition = windows.block_device.partition
        payload, signature = _payload(media, chosen, trusted, allow_unsigned)
        planned = PlannedImage(
            name=name or str(image),
            location=str(image),
            path=target.image,
            state=files.record(opened.identity),
            product=evidence.guest.name,
            version=str(evidence.guest.version),
            volume=windows.block_device.number,
            partition_offset=partition.offset if partition is not None else 0,
            disk=read_disk_identity(opened),
        )
        plan = Plan(
            image=planned,
            package=payload.describe(str(package), signature),
            reason=f"{chosen.rule.value}: {chosen.explanation}",
            nothing_to_do=not chosen.applies,
            host=target.host,
            output=target.output,
            warnings=opened.warnings,
        )
    if not plan.nothing_to_do:
        plan = Plan(*plan._replace(steps=tuple(strategy.steps(plan))))
    return Prepared(plan, payload, signature)


def _check_format(image: Image) -> None:
    if image.disk.chain:
        raise Unsupported(
            f"{image.path}: a differencing disk is not serviced yet",
            hint="Merge it into its parent, or copy the chain into one disk (Convert-VHD).",
        )
    if image.disk.format not in _SERVED_FORMATS:
        raise Unsupported(
            f"{image.path}: no host mounts a {image.disk.format} disk",
            hint="Convert it to VHDX first (qemu-img convert -O vhdx).",
        )


def _choose(image: Image, media: Media, volume: int | None) -> tuple[Fit, Evidence]:
    """Return the package that fits, and the evidence. Raises DoesNotApply."""
    image.prefetch(partial(prefetch_windows, image))
    evidence = read_evidence(image.windows(volume), media.packages)
    choice = choose(media.packages, evidence)
    # A guest with in-box components needs nothing, whatever the package is for.
    own = [item for item in choice.fits if item.rule is Rule.IN_BOX]
    chosen = choice.fit or (own[0] if own else None)
    if chosen is None:
        raise DoesNotApply(
            f"{image.path}: no package of {media.name} fits this guest: {choice.refusal}",
            hint="`imagetool package show` says for which systems its packages are.",
        )
    if chosen.applies:
        _check_pending(image, evidence)
        _check_boot(image, evidence)
    return chosen, evidence


def _payload(
    media: Media, chosen: Fit, trusted: Sequence[Certificate], allow_unsigned: bool
) -> tuple[IntegrationServices, PackageReport | None]:
    package: Package = chosen.package
    if package.size > _MAX_PACKAGE_SIZE:
        raise DoesNotApply(
            f"{package.name}: a package of {package.size:,} bytes, which is more than any "
            "integration services package has",
            hint="Name the package that is meant.",
        )
    if not chosen.applies:
        return IntegrationServices(package.name, package.identity, b"", {}), None
    cabinet = package.read_cabinet()
    # Not the package that was opened: the very bytes that will be staged.
    staged = package_in_cabinet(cabinet, package.name)
    staged.disc_doubts = package.disc_doubts
    signature = check_package(staged, trusted)
    _check_genuine(media.name, signature, allow_unsigned)
    members = {
        member.name: hashlib.sha256(staged.read(member.name)).hexdigest()
        for member in staged.members()
    }
    return IntegrationServices(package.name, package.identity, cabinet, members), signature


def _check_genuine(media: str, report: PackageReport, allow_unsigned: bool) -> None:
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


def _check_pending(image: Image, evidence: Evidence) -> None:
    pending = [
        item.identity for item in evidence.guest.evidence.packages if item.state == INSTALL_PENDING
    ]
    if pending:
        raise DoesNotApply(
            f"{image.path}: {pending[0]} is waiting for the guest's next boot",
            hint="Boot the guest once, or start again from a template without it.",
        )


def _check_boot(image: Image, evidence: Evidence) -> None:
    """Refuse a guest that would be `disabled` afterwards: the proof refuses it after the work."""
    faults = boot_faults(evidence.guest.facts, evidence.guest.evidence)
    if faults:
        raise DoesNotApply(
            f"{image.path}: this guest's verdict is disabled, and a package does not change that: "
            f"{faults[0]}",
            hint="Set that right in the guest first, or start again from a template without it.",
        )
