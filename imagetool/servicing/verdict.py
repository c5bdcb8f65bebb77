"""The verdict: which row of the table fits the evidence (docs/commands.md, "verify").

Versions decide. Times are shown and decide nothing: the host's clock wrote some of them, the
guest's the others. An absent value is older than any.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from imagetool.guest.components import (
    INSTALL_PENDING,
    INSTALLED,
    PARTIALLY_INSTALLED,
    PERMANENT,
    UNINSTALL_PENDING,
    Components,
    ServicedPackage,
)
from imagetool.guest.windows import WindowsFacts
from imagetool.package.identity import Version

_NEVER = Version(0, 0)
_WINDOWS_10 = Version(10, 0)
_DISABLED = 4
_SERVICE = "Data Exchange (vmickvpexchange)"
_OFF = f"{_SERVICE} is disabled in the guest"


class Name(Enum):
    """The verdicts, in the order of the table."""

    BROKEN = "broken"
    CONTRADICTORY = "contradictory"
    IN_BOX = "in-box"
    ABSENT = "absent"
    OUTDATED = "outdated"
    CURRENT = "current"
    UNCONFIRMED = "unconfirmed"


class Verdict(NamedTuple):
    """A verdict, whether it holds, and why."""

    name: Name
    installed: bool
    confirmed: bool
    required: str
    """installed or confirmed."""
    required_because: str
    reasons: tuple[str, ...]
    present: Version | None
    """P: what the next boot will run."""
    bound: Version | None
    """B: what the last boot on Hyper-V bound."""
    recorded: Version | None
    """R: what the guest wrote."""
    wanted: Version | None
    """W: what was asked for."""

    @property
    def holds(self) -> bool:
        """Whether the requirement that was applied is met."""
        return self.installed if self.required == "installed" else self.confirmed


def judge(
    facts: WindowsFacts,
    components: Components,
    wanted: Version | None = None,
    require: str | None = None,
) -> Verdict:
    """The verdict on a Windows guest. `wanted` None means: whatever is present."""
    present = present_version(components)
    bound, recorded = components.bound, components.recorded_version
    target = present if wanted is None else wanted
    name, installed, confirmed, reasons = _row(facts, components, present, target, wanted)
    required, because = _requirement(facts, require)
    return Verdict(
        name=name,
        installed=installed,
        confirmed=confirmed,
        required=required,
        required_because=because,
        reasons=tuple(reasons),
        present=present,
        bound=bound,
        recorded=recorded,
        wanted=target,
    )


def present_version(components: Components) -> Version | None:
    """P: the active wvmbus driver, or a newer package that is installed or about to be."""
    versions = [
        package.identity.version
        for package in components.packages
        if package.state in (INSTALL_PENDING, INSTALLED, PERMANENT)
    ]
    if components.active_driver is not None:
        versions.append(components.active_driver)
    return max(versions, default=None)


def _requirement(facts: WindowsFacts, require: str | None) -> tuple[str, str]:
    if require is not None:
        return require, "asked for"
    if facts.carries_its_own:
        return "installed", "the guest carries its own integration components"
    if facts.generalised:
        return "installed", "the guest is generalised: a boot would use it up"
    return "confirmed", "the guest can be booted to confirm it"


_Row = tuple[Name, bool, bool, list[str]]


def _row(
    facts: WindowsFacts,
    components: Components,
    present: Version | None,
    target: Version | None,
    wanted: Version | None,
) -> _Row:
    """The first row of the table that fits: verdict, installed, confirmed, reasons."""
    recorded, bound = components.recorded_version, components.bound
    failed = [
        f"{package.identity} is {package.state_name}"
        for package in components.packages
        if package.state < 0 or package.state in (UNINSTALL_PENDING, PARTIALLY_INSTALLED)
    ]
    if failed:
        return Name.BROKEN, False, False, failed
    contradictions = _contradictions(components, present)
    if contradictions:
        return Name.CONTRADICTORY, False, False, contradictions
    newer_wanted = wanted is not None and wanted >= _WINDOWS_10 and wanted > _or(present)
    if facts.carries_its_own and not newer_wanted:
        why = ["integration components are part of this Windows"]
        if recorded is not None and recorded < _WINDOWS_10:
            why.append(f"the recorded {recorded} is stale, left by an upgrade")
        return Name.IN_BOX, True, _or(recorded) >= _WINDOWS_10, why
    if present is None or target is None:
        return Name.ABSENT, False, False, ["no wvmbus driver is active, and no package is there"]
    if present < target:
        return Name.OUTDATED, False, False, [f"present {present} is older than wanted {target}"]
    if _or(recorded) >= target:
        return Name.CURRENT, True, True, [f"the guest recorded {recorded}"]
    return Name.UNCONFIRMED, True, False, _why_unconfirmed(facts, components, target, bound)


def _contradictions(components: Components, present: Version | None) -> list[str]:
    found = []
    recorded = _or(components.recorded_version)
    if recorded > _or(present) and recorded > _or(components.bound):
        found.append(
            f"the recorded {recorded} is newer than both the present {present} and the bound "
            f"{components.bound} driver"
        )
    for package in components.packages:
        if package.state == INSTALLED and package.payload is not None:
            found += _gaps(package)
    return found


def _gaps(package: ServicedPackage) -> list[str]:
    payload = package.payload
    assert payload is not None
    gaps = []
    if not payload.manifest:
        gaps.append(f"{package.identity} is installed, and its manifest is missing")
    if not payload.catalog:
        gaps.append(f"{package.identity} is installed, and its catalog is missing")
    gaps += [f"{package.identity} is installed, and {path} is missing" for path in payload.missing]
    return gaps


def _why_unconfirmed(
    facts: WindowsFacts, components: Components, target: Version, bound: Version | None
) -> list[str]:
    """Every reason that the evidence shows for a record that is older than what is wanted."""
    reasons = []
    recorded = components.recorded
    said = f"recorded is {recorded}" if recorded is not None else "nothing is recorded"
    if recorded is None and bound is None:
        reasons.append("there is no sign of a boot on Hyper-V")
    pending = [str(p.identity) for p in components.packages if p.state == INSTALL_PENDING]
    if bound is None or bound < target:
        if bound is not None or recorded is not None:
            last = f"the last boot bound {bound}" if bound is not None else "no boot bound a driver"
            reasons.append(f"not booted since: {last}, {said}")
        if facts.generalised:
            reasons.append("generalised: the first boot uses the template up")
        reasons += [f"install pending until the next boot: {identity}" for identity in pending]
        if components.data_exchange_start == _DISABLED:
            reasons.append(f"{_OFF}: a boot will not record anything")
    else:
        reasons.append(f"booted with {bound}, yet {said}")
        if components.data_exchange_start == _DISABLED:
            reasons.append(_OFF)
        else:
            reasons.append(f"{_SERVICE} is enabled in the guest: it may be off on the host")
    return reasons


def _or(version: Version | None) -> Version:
    return _NEVER if version is None else version
