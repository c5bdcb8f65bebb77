"""What an injection would do, decided before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imagetool.errors import DoesNotApply, Unsupported
from imagetool.guest.components import INSTALL_PENDING
from imagetool.guest.image import open_image
from imagetool.package import Identity, open_package
from imagetool.servicing.applicability import Rule
from imagetool.servicing.verify import choose_package, read_evidence

_MAX_PACKAGE_SIZE = 256 << 20


@dataclass(frozen=True, slots=True)
class DiskIdentity:
    """What names a disk to a guest, and must survive servicing."""

    disk_id: str
    table_id: str
    partition_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which package goes into which Windows of an image, and what was seen while deciding."""

    image: str
    media: str
    package: str
    """The name of the package in its media."""
    identity: Identity
    cabinet: bytes
    """The cabinet itself, as it is handed to the host."""
    product: str
    volume: int
    partition_offset: int
    """Where the volume of Windows begins, in bytes."""
    disk_identity: DiskIdentity
    reason: str
    """Why this package: the rule, and what it read."""
    nothing_to_do: bool


def make_plan(image: Path, package: Path, volume: int | None = None) -> Plan:
    """Decide. Raises DoesNotApply where no package fits or something blocks it."""
    with open_package(package) as media, open_image(image) as opened:
        if opened.disk.chain:
            raise Unsupported(
                f"{image}: a differencing disk is not serviced yet",
                hint="Merge it into its parent, or copy the chain into one disk (Convert-VHD).",
            )
        windows = opened.windows(volume)
        facts, components = read_evidence(windows)
        choice = choose_package(windows, facts, components, media.packages)
        # A guest that carries its own components needs nothing, whatever the package is for.
        own = [item for item in choice.fits if item.rule is Rule.IN_BOX]
        chosen = choice.fit or (own[0] if own else None)
        if chosen is None:
            reasons = "; ".join(f"{fit.package.name}: {fit.explanation}" for fit in choice.fits)
            raise DoesNotApply(
                f"{image}: no package of {package} is for this guest: {reasons}",
                hint="`imagetool package show` says for which systems its packages are.",
            )
        if chosen.applies:
            _check_pending(
                image, [p.identity for p in components.packages if p.state == INSTALL_PENDING]
            )
        if chosen.package.size > _MAX_PACKAGE_SIZE:
            raise DoesNotApply(f"{chosen.package.name}: a package of {chosen.package.size} bytes")
        partition = windows.block_device.partition
        return Plan(
            image=str(image),
            media=str(package),
            package=chosen.package.name,
            identity=chosen.package.identity,
            cabinet=chosen.package.read_cabinet(),
            product=facts.product,
            volume=windows.block_device.number,
            partition_offset=partition.offset if partition is not None else 0,
            disk_identity=read_disk_identity(image),
            reason=f"{chosen.rule.value}: {chosen.explanation}",
            nothing_to_do=not chosen.applies,
        )


def _check_pending(image: Path, pending: list[Identity]) -> None:
    if pending:
        raise DoesNotApply(
            f"{image}: {pending[0]} is waiting for the guest's next boot",
            hint="Boot the guest once, or start again from a template without it.",
        )


def read_disk_identity(image: Path) -> DiskIdentity:
    """The disk's identifiers, read afresh."""
    with open_image(image) as opened:
        return DiskIdentity(
            disk_id=opened.disk.identifiers.get("VirtualDiskId", ""),
            table_id=opened.partition_table.identifier,
            partition_ids=tuple(item.identifier for item in opened.partition_table.partitions),
        )
