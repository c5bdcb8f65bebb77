"""Read the evidence in an image and judge it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from imagetool.errors import DoesNotApply, ImagetoolError
from imagetool.guest.components import (
    IntegrationComponents,
    ServicedPackage,
    read_integration_components,
    read_packages,
)
from imagetool.guest.foresight import look_ahead
from imagetool.guest.image import Image
from imagetool.guest.installation import WindowsInstallation
from imagetool.guest.windows import WindowsFacts, accepts_sha2, read_windows_facts
from imagetool.package.identity import Version
from imagetool.servicing.verdict import Verdict, judge, present_version

if TYPE_CHECKING:
    from imagetool.package import Media, Package
    from imagetool.servicing.applicability import Choice


class Verification(NamedTuple):
    """A verdict with the evidence that it follows from."""

    image: str
    facts: WindowsFacts
    components: IntegrationComponents
    verdict: Verdict
    package: str
    """The name in the media of the package whose version was wanted; empty without one."""
    warnings: tuple[str, ...] = ()
    """Warnings about the file, such as another process writing to it."""


class NoVerdict(NamedTuple):
    """An image that could not be judged, and the error."""

    image: str
    error: ImagetoolError


class ApplicabilityEvidence(NamedTuple):
    """The evidence that the choice of a package depends on (applicability.GuestFacts)."""

    version: Version
    architecture: str
    packages: Sequence[ServicedPackage]
    active_driver: Version | None
    accepts_sha2: bool = True


def read_applicability_evidence(
    windows: WindowsInstallation,
    facts: WindowsFacts,
    components: IntegrationComponents,
    packages: Sequence[Package],
) -> ApplicabilityEvidence:
    """Read the evidence for `packages`: their parents in the guest, its driver, SHA-2 support."""
    parents = _read_parents(windows, packages)
    return ApplicabilityEvidence(
        version=facts.version,
        architecture=facts.architecture,
        packages=(*parents, *components.packages),
        active_driver=components.active_driver,
        accepts_sha2=accepts_sha2(windows),
    )


def _read_parents(
    windows: WindowsInstallation, packages: Sequence[Package]
) -> Sequence[ServicedPackage]:
    names = {parent.name for package in packages for parent in package.parents}
    return read_packages(windows, sorted(names))


def _everything(image: Image, volume: int | None, media: Sequence[Media]) -> None:
    """What a verdict reads, asked ahead: the questions that it leads to are asked beside it."""
    windows = image.windows(volume)
    packages = [package for medium in media for package in medium.packages]
    image.ahead([partial(accepts_sha2, windows), partial(_read_parents, windows, packages)])
    read_evidence(windows)


def choose_package(
    windows: WindowsInstallation,
    facts: WindowsFacts,
    components: IntegrationComponents,
    packages: Sequence[Package],
) -> Choice:
    """Choose the one of `packages` that fits this guest."""
    from imagetool.servicing.applicability import choose

    return choose(packages, read_applicability_evidence(windows, facts, components, packages))


def read_evidence(windows: WindowsInstallation) -> tuple[WindowsFacts, IntegrationComponents]:
    """Read the facts and the evidence. Raises Corrupt."""
    windows.image.ahead([partial(read_windows_facts, windows)])
    return read_windows_facts(windows), read_integration_components(windows)


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
    image.ahead([partial(_everything, image, volume, media), partial(look_ahead, image)])
    windows = image.windows(volume)
    facts, components = read_evidence(windows)
    wanted, name = at_least, ""
    if media:
        packages = [package for medium in media for package in medium.packages]
        choice = choose_package(windows, facts, components, packages)
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
    return Verification(image.path, facts, components, verdict, name, image.file_warnings)
