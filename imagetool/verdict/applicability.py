"""Applicability of packages to a guest, from parents and architecture, never from a file name.

A parent is present where a package of that name, token, architecture and language is installed
whose version has the same major and minor number and is not older (manifests name 6.3.0.0, which
no guest has, so equality would never fit).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from imagetool.package import Identity, Package
from imagetool.package.identity import INTEGRATION_PACKAGE_NAMES, Version
from imagetool.package.summary import SYSTEMS

_WINDOWS_7 = Version(6, 1)
_WINDOWS_10 = Version(10, 0)
_INSTALLED_STATES = (0x70, 0x80)
_PRESENT_STATES = (0x60, 0x70, 0x80)


class KnownPackage(Protocol):
    """A package in the guest's Component Based Servicing."""

    @property
    def identity(self) -> Identity:
        """Name, token, architecture, language and version."""

    @property
    def state(self) -> int:
        """CurrentState under Component Based Servicing."""


class GuestFacts(Protocol):
    """The properties of a guest that applicability depends on, and its name."""

    @property
    def name(self) -> str:
        """The name of its system, for messages."""

    @property
    def version(self) -> Version:
        """The version of Windows."""

    @property
    def architecture(self) -> str:
        """amd64, x86 …; empty where unknown."""

    @property
    def packages(self) -> Sequence[KnownPackage]:
        """Possible parents, and integration services packages."""

    @property
    def active_driver(self) -> Version | None:
        """The version of the active wvmbus driver."""

    @property
    def accepts_sha2(self) -> bool:
        """True if it accepts a signature with SHA-2 alone."""


class Rule(Enum):
    """The rules that decide on a package."""

    APPLICABLE = "applicable"
    OTHER_PACKAGE = "other package"
    ALREADY_INSTALLED = "already installed"
    SUPERSEDED = "superseded"
    WRONG_ARCHITECTURE = "wrong architecture"
    NO_PARENT = "no parent"
    IN_BOX = "carries its own"
    TOO_OLD = "too old"
    NO_SHA2 = "no SHA-2 support"


@dataclass(frozen=True, slots=True)
class Fit:
    """The applicability of a package to a guest: the deciding rule, and its evidence in words."""

    package: Package
    rule: Rule
    explanation: str
    """A sentence where it is for this guest; else what it is, as "for x86"."""

    @property
    def applies(self) -> bool:
        """True if the package can be installed."""
        return self.rule is Rule.APPLICABLE

    @property
    def is_for_guest(self) -> bool:
        """True if it is the package for this guest, even if there is nothing to install."""
        return self.rule in (Rule.APPLICABLE, Rule.ALREADY_INSTALLED, Rule.SUPERSEDED)


@dataclass(frozen=True, slots=True)
class Choice:
    """The package of several that is for the guest, if any, and the fit of each."""

    fit: Fit | None
    fits: tuple[Fit, ...]
    guest: str
    """The guest's system and architecture."""

    @property
    def refusal(self) -> str:
        """The reasons for which none is for this guest, as one sentence; each reason once."""
        names: dict[str, list[str]] = {}
        for item in self.fits:
            names.setdefault(item.explanation, []).append(item.package.name)
        parts = [
            f"{', '.join(packages)} {'is' if len(packages) == 1 else 'are'} {explanation}"
            for explanation, packages in names.items()
        ]
        return "; ".join([*parts, f"this guest is {self.guest}"])

    @property
    def newest(self) -> Package | None:
        """The newest package that is for this guest, even if it is installed already."""
        fitting = [item.package for item in self.fits if item.is_for_guest]
        return max(fitting, key=lambda package: package.version, default=None)


def check_fit(package: Package, guest: GuestFacts) -> Fit:
    """Decide on one package by the first rule that matches."""

    def make_fit(rule: Rule, explanation: str) -> Fit:
        return Fit(package, rule, explanation)

    if package.identity.name not in INTEGRATION_PACKAGE_NAMES:
        name = package.identity.name
        return make_fit(Rule.OTHER_PACKAGE, f"no integration services package, but {name}")
    if guest.version >= _WINDOWS_10:
        return make_fit(Rule.IN_BOX, f"{guest.name} carries its own components")
    if guest.architecture and package.architecture != guest.architecture:
        return make_fit(Rule.WRONG_ARCHITECTURE, f"for {package.architecture}")
    if guest.version < _WINDOWS_7:
        return make_fit(Rule.TOO_OLD, "for DISM, which services Windows 7 and later")
    parent = _find_parent(package, guest)
    if parent is None:
        return make_fit(Rule.NO_PARENT, _intended_guests(package, guest))
    same = [item for item in guest.packages if item.identity.name == package.identity.name]
    for item in sorted(same, key=lambda item: item.identity.version, reverse=True):
        if item.state not in _PRESENT_STATES:
            continue
        if item.identity == package.identity:
            return make_fit(Rule.ALREADY_INSTALLED, f"{item.identity} is in the image")
        if item.identity.version > package.version:
            return make_fit(Rule.SUPERSEDED, f"the newer {item.identity} is in the image")
    if guest.active_driver is not None and guest.active_driver > package.version:
        return make_fit(
            Rule.SUPERSEDED, f"the active driver {guest.active_driver} is newer than the package"
        )
    if (
        not guest.accepts_sha2
        and package.digest_algorithms
        and "sha1" not in package.digest_algorithms
    ):
        return make_fit(
            Rule.NO_SHA2,
            f"signed with {', '.join(package.digest_algorithms)} alone, which this guest has not "
            "learned (KB4474419, servicing stack KB4490628)",
        )
    return make_fit(Rule.APPLICABLE, f"its parent {parent} is installed")


def choose(packages: Sequence[Package], guest: GuestFacts) -> Choice:
    """Choose the package for the guest: an applicable one before one that is installed already."""
    fits = tuple(check_fit(package, guest) for package in packages)
    fitting = [item for item in fits if item.is_for_guest]
    fitting.sort(key=lambda item: (not item.applies, [-n for n in item.package.version]))
    described = f"{guest.name}, {guest.architecture}" if guest.architecture else guest.name
    return Choice(fitting[0] if fitting else None, fits, described)


def _intended_guests(package: Package, guest: GuestFacts) -> str:
    """The guests that a package is for, by its parents: other systems, or with a package in it."""
    systems = sorted({parent.version[:2] for parent in package.parents})
    if not systems:
        return "for no system, for it names no parent"
    own = guest.version[:2]
    if own in systems:
        fitting = {
            f"{item.name} {item.version}" for item in package.parents if item.version[:2] == own
        }
        more = f", or {len(fitting) - 1} others," if len(fitting) > 1 else ""
        return f"for a guest in which {min(fitting)}{more} is installed"
    names = [SYSTEMS.get(system, f"Windows {system[0]}.{system[1]}") for system in systems]
    if len(names) > 1 and own > systems[-1]:
        return f"for {names[-1]} and older"
    if len(names) > 1 and own < systems[0]:
        return f"for {names[0]} and newer"
    return f"for {', '.join(names)}"


def _find_parent(package: Package, guest: GuestFacts) -> Identity | None:
    for parent in package.parents:
        for item in guest.packages:
            own = item.identity
            same = (own.name, own.public_key_token, own.architecture, own.language) == (
                parent.name,
                parent.public_key_token,
                parent.architecture,
                parent.language,
            )
            fitting = own.version[:2] == parent.version[:2] and own.version >= parent.version
            if same and fitting and item.state in _INSTALLED_STATES:
                return own
    return None
