"""The verdict on the evidence, by the table in docs/commands.md, "verify".

Only versions decide. Times are reported, but come from the clocks of host and guest, which may
differ. An absent version is older than any other.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from imagetool.guest.windows.boot import boot_faults
from imagetool.guest.windows.components import (
    INSTALL_PENDING,
    INSTALLED,
    PARTIALLY_INSTALLED,
    PERMANENT,
    UNINSTALL_PENDING,
    IntegrationComponents,
    ServicedPackage,
)
from imagetool.guest.windows.facts import WindowsFacts
from imagetool.package.identity import Version

_LOWEST_VERSION = Version(0, 0)
_WINDOWS_10 = Version(10, 0)
_DISABLED = 4
_DATA_EXCHANGE = "Data Exchange (vmickvpexchange)"
_DATA_EXCHANGE_DISABLED = f"{_DATA_EXCHANGE} is disabled in the guest"


class Outcome(Enum):
    """The outcomes, in the order of the table."""

    BROKEN = "broken"
    DISABLED = "disabled"
    CONTRADICTORY = "contradictory"
    IN_BOX = "in-box"
    ABSENT = "absent"
    OUTDATED = "outdated"
    CURRENT = "current"
    UNCONFIRMED = "unconfirmed"


class Verdict(NamedTuple):
    """An outcome, the requirement that was applied to it, and the reasons."""

    outcome: Outcome
    installed: bool
    confirmed: bool
    required: str
    """The requirement: installed or confirmed."""
    required_because: str
    reasons: tuple[str, ...]
    present: Version | None
    """P: the version that the next boot will run."""
    bound: Version | None
    """B: the driver version that the last boot on Hyper-V bound."""
    recorded: Version | None
    """R: the version that the guest recorded."""
    wanted: Version | None
    """W: the version asked for; else `present`."""

    @property
    def holds(self) -> bool:
        """True if the requirement is met."""
        return self.installed if self.required == "installed" else self.confirmed


def judge(
    facts: WindowsFacts,
    components: IntegrationComponents,
    wanted: Version | None = None,
    require: str | None = None,
) -> Verdict:
    """Judge a Windows guest. Without `wanted`, the present version is taken for it."""
    present = present_version(components)
    bound, recorded = components.bound_driver, components.recorded_version
    target = present if wanted is None else wanted
    outcome, installed, confirmed, reasons = _first_fitting_row(
        facts, components, present, target, wanted
    )
    required, because = _requirement(facts, require)
    return Verdict(
        outcome=outcome,
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


def present_version(components: IntegrationComponents) -> Version | None:
    """P: the version of the active wvmbus driver, or of a newer installed or pending package."""
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
    if facts.has_in_box_components:
        return "installed", "the guest carries its own integration components"
    if facts.generalised:
        return "installed", "the guest is generalised: a boot would use it up"
    return "confirmed", "the guest can be booted to confirm it"


_TableRow = tuple[Outcome, bool, bool, list[str]]


def _first_fitting_row(
    facts: WindowsFacts,
    components: IntegrationComponents,
    present: Version | None,
    target: Version | None,
    wanted: Version | None,
) -> _TableRow:
    """The first row of the table that fits: outcome, installed, confirmed, reasons."""
    recorded, bound = components.recorded_version, components.bound_driver
    failed = [
        f"{package.identity} is {package.state_name}"
        for package in components.packages
        if package.state < 0 or package.state in (UNINSTALL_PENDING, PARTIALLY_INSTALLED)
    ]
    if failed:
        return Outcome.BROKEN, False, False, failed
    faults = boot_faults(facts, components)
    if faults:
        return Outcome.DISABLED, False, False, list(faults)
    contradictions = _contradictions(components, present)
    if contradictions:
        return Outcome.CONTRADICTORY, False, False, contradictions
    newer_wanted = wanted is not None and wanted >= _WINDOWS_10 and wanted > _or_lowest(present)
    if facts.has_in_box_components and not newer_wanted:
        why = ["integration components are part of this Windows"]
        if recorded is not None and recorded < _WINDOWS_10:
            why.append(f"the recorded {recorded} is stale, left by an upgrade")
        return Outcome.IN_BOX, True, _or_lowest(recorded) >= _WINDOWS_10, why
    if present is None or target is None:
        return Outcome.ABSENT, False, False, ["no wvmbus driver is active, and no package is there"]
    if present < target:
        return Outcome.OUTDATED, False, False, [f"present {present} is older than wanted {target}"]
    if _or_lowest(recorded) >= target:
        return Outcome.CURRENT, True, True, _current_reasons(components)
    return Outcome.UNCONFIRMED, True, False, _unconfirmed_reasons(facts, components, target, bound)


def _contradictions(components: IntegrationComponents, present: Version | None) -> list[str]:
    found = []
    recorded = _or_lowest(components.recorded_version)
    if recorded > _or_lowest(present) and recorded > _or_lowest(components.bound_driver):
        found.append(
            f"the recorded {recorded} is newer than both the present {present} and the bound "
            f"{components.bound_driver} driver"
        )
    for package in components.packages:
        if package.state == INSTALLED and package.payload is not None:
            found += _missing_files(package)
    return found


def _missing_files(package: ServicedPackage) -> list[str]:
    payload = package.payload
    assert payload is not None
    gaps = []
    if not payload.manifest:
        gaps.append(f"{package.identity} is installed, and its manifest is missing or empty")
    if not payload.catalog:
        gaps.append(f"{package.identity} is installed, and its catalog is missing or empty")
    gaps += [
        f"{package.identity} is installed, and {path} is missing or empty"
        for path in payload.missing
    ]
    return gaps


def _current_reasons(components: IntegrationComponents) -> list[str]:
    """What the guest recorded; where an install is pending, also what the last boot bound."""
    pending = _pending_installs(components)
    if pending:
        bound = components.bound_driver
        last = f"the last boot bound {bound}" if bound is not None else "no boot bound a driver"
        pending.append(last)
    return [f"the guest recorded {components.recorded_version}", *pending]


def _pending_installs(components: IntegrationComponents) -> list[str]:
    return [
        f"install pending until the next boot: {package.identity}"
        for package in components.packages
        if package.state == INSTALL_PENDING
    ]


def _unconfirmed_reasons(
    facts: WindowsFacts, components: IntegrationComponents, target: Version, bound: Version | None
) -> list[str]:
    """Every reason in the evidence for a recorded version that is older than the target."""
    reasons = []
    recorded = components.recorded
    said = f"recorded is {recorded}" if recorded is not None else "nothing is recorded"
    if recorded is None and bound is None:
        reasons.append("there is no sign of a boot on Hyper-V")
    if bound is None or bound < target:
        if bound is not None or recorded is not None:
            last = f"the last boot bound {bound}" if bound is not None else "no boot bound a driver"
            reasons.append(f"not booted since: {last}, {said}")
        if facts.generalised:
            reasons.append("generalised: the first boot uses the template up")
        reasons += _pending_installs(components)
        if components.data_exchange_start == _DISABLED:
            reasons.append(f"{_DATA_EXCHANGE_DISABLED}: a boot will not record anything")
    else:
        reasons.append(f"booted with {bound}, yet {said}")
        if components.data_exchange_start == _DISABLED:
            reasons.append(_DATA_EXCHANGE_DISABLED)
        else:
            reasons.append(f"{_DATA_EXCHANGE} is enabled in the guest: it may be off on the host")
    return reasons


def _or_lowest(version: Version | None) -> Version:
    return _LOWEST_VERSION if version is None else version
