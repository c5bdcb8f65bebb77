"""Read the evidence in an image and judge it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple

from imagetool.contracts import Reportable
from imagetool.errors import BudgetSpent, DoesNotApply, ImagetoolError, Unclean, Unreadable
from imagetool.guest.image import Image
from imagetool.guest.windows.components import (
    IntegrationComponents,
    ServicedPackage,
    read_packages,
)
from imagetool.guest.windows.facts import WindowsFacts, accepts_sha2
from imagetool.guest.windows.guest import WindowsGuest, read_windows_guest
from imagetool.guest.windows.installation import WindowsInstallation
from imagetool.guest.windows.pending import PendingOperations, read_pending
from imagetool.guest.windows.prefetch import prefetch_windows
from imagetool.package.identity import Version
from imagetool.verdict.windows import Verdict, judge, present_version

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from imagetool.package import Media, Package
    from imagetool.package.signature.check import Finding


class CriteriaFields(NamedTuple):
    """The fields of Criteria. A dataclass of as many takes six times as long to import."""

    at_least: Version | None = None
    media: Sequence[Media] = ()
    """The wanted version is the newest of `at_least` and of the packages here that fit."""
    require: str | None = None
    """"installed", "confirmed", or None, which decides by the kind of guest."""
    strict: bool = False
    """True if a warning fails."""
    accept_rehearsal: bool = False
    """True if what the emulated host wrote counts as evidence."""
    accept_unclean: bool = False
    """True if a Linux volume is judged whose journal was not replayed."""
    trusted: Sequence[Certificate] = ()
    """Roots under which a package may be signed, beside Microsoft's."""
    services: Sequence[str] = ()
    """Services that a Linux guest must have."""


class Criteria(CriteriaFields):
    """The question that is asked of an image."""

    @cached_property
    def _findings(self) -> dict[Package, Finding]:
        return {}

    def check_signature(self, package: Package) -> Finding:
        """The worst finding on a package, as `package check` makes it; made once."""
        if package not in self._findings:
            from imagetool.package.signature.check import check_package

            self._findings[package] = check_package(package, self.trusted).worst
        return self._findings[package]


_PRESENT_VERSION = Criteria()
"""Nothing is asked for: the image is compared with itself."""


class WantedFrom(Enum):
    """The origin of the wanted version; PRESENT: none was asked for."""

    AT_LEAST = "at-least"
    PACKAGE = "package"
    PRESENT = "present"


class Wanted(NamedTuple):
    """The wanted version."""

    version: Version | None
    origin: WantedFrom
    package: str = ""
    """The name in the media of the package that it is from; empty without one."""
    warnings: tuple[str, ...] = ()


class VerificationFields(NamedTuple):
    """The fields of Verification."""

    image: str
    guest: WindowsGuest
    verdict: Verdict
    wanted: Wanted
    criteria: Criteria
    warnings: tuple[str, ...] = ()
    """Warnings about all that was read, and about the guest."""


class Verification(VerificationFields, Reportable):
    """A verdict with the guest and the evidence that it follows from."""

    __slots__ = ()

    @property
    def facts(self) -> WindowsFacts:
        """The facts of the guest."""
        return self.guest.facts

    @property
    def components(self) -> IntegrationComponents:
        """The evidence about its integration components."""
        return self.guest.evidence

    @property
    def rehearsed(self) -> bool:
        """True if the emulated host wrote or booted this image: its evidence is no real one."""
        return bool(self.facts.emulation_marks)

    @property
    def objections(self) -> tuple[str, ...]:
        """The reasons for which it fails although the requirement is met, each a sentence."""
        found = []
        if self.rehearsed and not self.criteria.accept_rehearsal:
            marks = ", ".join(name.lower() for name, _ in self.facts.emulation_marks)
            found.append(
                f"rehearsed: the emulated host wrote this evidence ({marks}); --accept-rehearsal "
                "counts it"
            )
        if self.warnings and self.criteria.strict:
            count = len(self.warnings)
            found.append(f"strict: {count} warning{'s' if count > 1 else ''}")
        return tuple(found)

    @property
    def holds(self) -> bool:
        """True if what is required holds, and nothing objects (exit code 0)."""
        return self.verdict.holds and not self.objections

    def __bool__(self) -> bool:
        """As `holds`: nobody takes a verdict for a yes because there is one."""
        return self.holds

    def __repr__(self) -> str:
        outcome = self.verdict.outcome.value
        return f"Verification({self.image!r}, {outcome!r}, holds={self.holds})"


class NoVerdict(NamedTuple):
    """An image that could not be judged, and the error."""

    image: str
    error: ImagetoolError


class Summary(NamedTuple):
    """The number of images that were judged, those that hold and fail, and those without verdict.

    A package that does not apply is a failure; `unreadable` are images that could not be read.
    """

    judged: int
    hold: int
    fail: int
    unreadable: int


class VerificationReportFields(NamedTuple):
    """The fields of VerificationReport."""

    images: tuple[Verification | NoVerdict, ...]
    error: ImagetoolError | None = None
    """The failure that ended the work before every image was judged."""
    started_at: datetime | None = None
    seconds: tuple[float, ...] = ()
    """The time that each image took."""


class VerificationReport(VerificationReportFields, Reportable):
    """The verdicts on several images, and the errors of those that could not be judged."""

    __slots__ = ()

    @property
    def holds(self) -> bool:
        """True if there is an image, every image has a verdict, and what is required holds."""
        return bool(self.images and self.error is None) and all(
            isinstance(item, Verification) and item.holds for item in self.images
        )

    def __bool__(self) -> bool:
        """As `holds`."""
        return self.holds

    @property
    def summary(self) -> Summary:
        """How many were judged, hold, fail, and could not be read."""
        hold = sum(isinstance(item, Verification) and item.holds for item in self.images)
        unreadable = sum(
            isinstance(item, NoVerdict) and not isinstance(item.error, DoesNotApply)
            for item in self.images
        )
        judged = len(self.images) - unreadable
        return Summary(judged, hold, judged - hold, unreadable)


class Evidence(NamedTuple):
    """The evidence for a verdict and for the choice of a package (applicability.GuestFacts)."""

    guest: WindowsGuest
    parents: Sequence[ServicedPackage]
    """Installed packages that the packages at hand name as their parents."""
    accepts_sha2: bool
    pending: PendingOperations

    @property
    def name(self) -> str:
        """The name of the system."""
        return self.guest.name

    @property
    def version(self) -> Version:
        """The version of the system."""
        return self.guest.version

    @property
    def architecture(self) -> str:
        """amd64, x86 …; empty where the image does not say."""
        return self.guest.architecture

    @property
    def packages(self) -> Sequence[ServicedPackage]:
        """Possible parents, and integration services packages."""
        return (*self.parents, *self.guest.evidence.packages)

    @property
    def active_driver(self) -> Version | None:
        """The version of the active wvmbus driver."""
        return self.guest.evidence.active_driver


def read_evidence(windows: WindowsInstallation, packages: Sequence[Package] = ()) -> Evidence:
    """Read the guest, and what `packages` ask of it. Raises Corrupt."""
    names = sorted({parent.name for package in packages for parent in package.parents})
    return Evidence(
        *windows.image.gather(
            partial(read_windows_guest, windows),
            partial(read_packages, windows, names),
            partial(accepts_sha2, windows),
            partial(read_pending, windows),
        )
    )


def verify(
    image: Image, criteria: Criteria = _PRESENT_VERSION, *, volume: int | None = None
) -> Verification:
    """Judge an image's integration components.

    Raises DoesNotApply where no package fits, NoOperatingSystem, SeveralInstallations, Encrypted,
    Unclean, Unsupported, Corrupt, BudgetSpent.
    """
    with image.budget:
        (verification,) = image.gather(partial(_verify, image, criteria, volume))
    return verification


def _verify(image: Image, criteria: Criteria, volume: int | None) -> Verification:
    image.prefetch(partial(prefetch_windows, image))
    try:
        windows = image.windows(volume)
    except BudgetSpent:
        raise
    except Unreadable:
        if not criteria.accept_unclean:
            _check_replayed(image)
        raise
    packages = [package for medium in criteria.media for package in medium.packages]
    evidence = read_evidence(windows, packages)
    wanted = _wanted(image.path, criteria, packages, evidence)
    guest = evidence.guest
    verdict = judge(guest.facts, guest.evidence, wanted.version, criteria.require)
    waiting = [f"work is pending: {text}" for text in evidence.pending.operations]
    unasked = [
        f"the service {name} was not asked for: --service counts for Linux guests alone"
        for name in criteria.services
    ]
    warnings = (*image.warnings, *guest.warnings, *waiting, *wanted.warnings, *unasked)
    return Verification(image.path, guest, verdict, wanted, criteria, warnings)


def _check_replayed(image: Image) -> None:
    """Raise Unclean where the root of a Linux may be out of date."""
    for device, guest in image.linux:
        if image.volume(device).needs_replay:
            raise Unclean(
                f"{image.path}: {guest.name} (volume {device.number}): the volume's journal holds "
                "writes that are not in place, so its files may be out of date",
                hint="Start and shut down the guest, or mount and unmount the volume once; "
                "--accept-unclean judges it as it lies.",
            )


def _wanted(
    name: str, criteria: Criteria, packages: Sequence[Package], evidence: Evidence
) -> Wanted:
    """The wanted version, of `--at-least` and the packages the newer one. Raises DoesNotApply."""
    found = []
    if criteria.at_least is not None:
        found.append(Wanted(criteria.at_least, WantedFrom.AT_LEAST))
    if packages:
        from imagetool.verdict.applicability import choose

        choice = choose(packages, evidence)
        newest = choice.newest
        if newest is not None:
            warnings = _package_warnings(newest, criteria)
            found.append(Wanted(newest.version, WantedFrom.PACKAGE, newest.name, warnings))
        elif not evidence.guest.facts.has_in_box_components:
            media = ", ".join(item.name for item in criteria.media)
            raise DoesNotApply(
                f"{name}: no package of {media} fits this guest: {choice.refusal}",
                hint="`imagetool package show` says for which systems its packages are.",
            )
    present = Wanted(present_version(evidence.guest.evidence), WantedFrom.PRESENT)
    return max(found, key=lambda item: item.version or Version(0, 0), default=present)


def _package_warnings(package: Package, criteria: Criteria) -> tuple[str, ...]:
    """A warning where the package that sets the wanted version is not signed as it should be."""
    finding = criteria.check_signature(package)
    if finding.judgement.value == "genuine":
        return ()
    return (
        f"{package.name} sets the wanted version, and is {finding.judgement.value}: "
        f"{finding.reason}",
    )
