"""Read the evidence in an image and judge it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from imagetool.contracts import Reportable
from imagetool.errors import DoesNotApply, ImagetoolError
from imagetool.guest.image import Image
from imagetool.guest.windows.components import (
    IntegrationComponents,
    ServicedPackage,
    read_packages,
)
from imagetool.guest.windows.facts import WindowsFacts, accepts_sha2
from imagetool.guest.windows.guest import WindowsGuest, read_windows_guest
from imagetool.guest.windows.installation import WindowsInstallation
from imagetool.guest.windows.prefetch import prefetch_windows
from imagetool.package.identity import Version
from imagetool.verdict.windows import Verdict, judge, present_version

if TYPE_CHECKING:
    from imagetool.package import Media, Package


@dataclass(frozen=True, slots=True, repr=False)
class Verification(Reportable):
    """A verdict with the guest and the evidence that it follows from."""

    image: str
    guest: WindowsGuest
    verdict: Verdict
    package: str
    """The name in the media of the package whose version was wanted; empty without one."""
    warnings: tuple[str, ...] = ()
    """Warnings about the file, such as another process writing to it."""

    @property
    def facts(self) -> WindowsFacts:
        """The facts of the guest."""
        return self.guest.facts

    @property
    def components(self) -> IntegrationComponents:
        """The evidence about its integration components."""
        return self.guest.evidence

    @property
    def holds(self) -> bool:
        """True if what is required holds (exit code 0)."""
        return self.verdict.holds

    def __repr__(self) -> str:
        outcome = self.verdict.outcome.value
        return f"Verification({self.image!r}, {outcome!r}, holds={self.holds})"


class NoVerdict(NamedTuple):
    """An image that could not be judged, and the error."""

    image: str
    error: ImagetoolError


@dataclass(frozen=True, slots=True)
class VerificationReport(Reportable):
    """The verdicts on several images, and the errors of those that could not be judged."""

    images: tuple[Verification | NoVerdict, ...]

    @property
    def holds(self) -> bool:
        """True if every image has a verdict, and what is required holds."""
        return all(isinstance(item, Verification) and item.holds for item in self.images)


class Evidence(NamedTuple):
    """The evidence for a verdict and for the choice of a package (applicability.GuestFacts)."""

    guest: WindowsGuest
    parents: Sequence[ServicedPackage]
    """Installed packages that the packages at hand name as their parents."""
    accepts_sha2: bool

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
        )
    )


def verify(
    image: Image,
    *,
    at_least: Version | None = None,
    media: Sequence[Media] = (),
    require: str | None = None,
    volume: int | None = None,
) -> Verification:
    """Judge an image's integration components.

    The wanted version is the newest of `at_least` and the fitting packages of `media`; without
    either, the present one. `require` is "installed", "confirmed", or None, which decides by the
    kind of guest. Raises DoesNotApply where no package fits, NoOperatingSystem,
    SeveralInstallations, Encrypted, Unsupported, Corrupt.
    """
    (verification,) = image.gather(partial(_verify, image, at_least, media, require, volume))
    return verification


def _verify(
    image: Image,
    at_least: Version | None,
    media: Sequence[Media],
    require: str | None,
    volume: int | None,
) -> Verification:
    image.prefetch(partial(prefetch_windows, image))
    windows = image.windows(volume)
    packages = [package for medium in media for package in medium.packages]
    evidence = read_evidence(windows, packages)
    facts, components = evidence.guest
    wanted, name = at_least, ""
    if media:
        from imagetool.verdict.applicability import choose

        choice = choose(packages, evidence)
        version = None
        if choice.newest is not None:
            version, name = choice.newest.version, choice.newest.name
        elif facts.has_in_box_components:
            version = present_version(components)
        else:
            raise DoesNotApply(
                f"{image.path}: no package of {', '.join(item.name for item in media)} fits this "
                "guest: "
                + "; ".join(f"{fit.package.name}: {fit.explanation}" for fit in choice.fits),
                hint="`imagetool package show` says for which systems its packages are.",
            )
        wanted = max((v for v in (wanted, version) if v is not None), default=None)
    verdict = judge(facts, components, wanted, require)
    return Verification(image.path, evidence.guest, verdict, name, image.file_warnings)
