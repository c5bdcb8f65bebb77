"""Every row of the verdict table, and the guests that real fleets hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagetool.guest.windows.components import IntegrationComponents, ServicedPackage
from imagetool.guest.windows.facts import WindowsFacts
from imagetool.guest.windows.payload import PayloadStatus
from imagetool.guest.windows.services import GuestService, Machine, StartOverride
from imagetool.package.identity import Identity, Version
from imagetool.verdict.windows import Outcome, Verdict, judge

OLD = Version(6, 3, 9600, 16384)
NEW = Version(6, 3, 9600, 19456)
COMPLETE = PayloadStatus(manifest=True, catalog=True, missing=())

T = TypeVar("T", WindowsFacts, IntegrationComponents)


def replace(evidence: T, **changes: object) -> T:
    return evidence._replace(**changes)  # type: ignore[arg-type, return-value]


WINDOWS = WindowsFacts(
    product="Windows Server 2012 R2 Standard",
    edition="ServerStandard",
    version=Version(6, 3, 9600, 0),
    architecture="amd64",
    computer_name="TEMPLATE",
    image_state="IMAGE_STATE_COMPLETE",
    last_host=None,
    emulation_marks=(),
)
WINDOWS_10 = replace(WINDOWS, product="Windows 10", version=Version(10, 0, 17763, 1))
GENERALISED = replace(WINDOWS, image_state="IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE")
VMBUS = GuestService("vmbus", 0, (), "Windows\\System32\\drivers\\vmbus.sys", 4096)
NOTHING = IntegrationComponents(
    recorded=None,
    recorded_at=None,
    active_driver=None,
    active_driver_package="",
    bound_driver=None,
    packages=(),
    in_box_packages=(),
    services=(VMBUS, GuestService("vmickvpexchange", 3)),
    vmbus_sys=None,
    storvsc_sys=None,
    icsvc_dll=None,
)
IN_BOX = replace(NOTHING, active_driver=OLD)
BOOTED = replace(
    IN_BOX, bound_driver=OLD, recorded=str(OLD), recorded_at=datetime(2024, 1, 1, tzinfo=UTC)
)


def package(
    state: int, version: Version = NEW, payload: PayloadStatus = COMPLETE
) -> ServicedPackage:
    name = "Microsoft-Hyper-V-Integration-Services-Package-2"
    return ServicedPackage(
        Identity(name, "31bf3856ad364e35", "amd64", "", version), state, None, payload
    )


def row(verdict: Verdict) -> tuple[Outcome, bool, bool]:
    return verdict.outcome, verdict.installed, verdict.confirmed


@pytest.mark.parametrize("state", [-0x7FF0FFFF, 0x05, 0x65])
def test_a_failed_or_half_installed_package_is_broken(state: int) -> None:
    verdict = judge(WINDOWS, replace(BOOTED, packages=(package(state),)), NEW)
    assert row(verdict) == (Outcome.BROKEN, False, False)


def test_a_record_newer_than_everything_else_is_contradictory() -> None:
    verdict = judge(WINDOWS, replace(BOOTED, recorded=str(NEW)))
    assert row(verdict) == (Outcome.CONTRADICTORY, False, False)


@pytest.mark.parametrize(
    "payload",
    [
        PayloadStatus(False, True, ()),
        PayloadStatus(True, False, ()),
        PayloadStatus(True, True, ("Windows\\x",)),
    ],
)
def test_an_installed_package_without_all_it_installs_is_contradictory(
    payload: PayloadStatus,
) -> None:
    evidence = replace(BOOTED, packages=(package(0x70, payload=payload),))
    assert row(judge(WINDOWS, evidence, NEW)) == (Outcome.CONTRADICTORY, False, False)
    pending = replace(BOOTED, packages=(package(0x60, payload=payload),))
    assert judge(WINDOWS, pending, NEW).outcome is Outcome.UNCONFIRMED


def test_windows_10_carries_its_own() -> None:
    own = replace(NOTHING, active_driver=Version(10, 0, 17763, 1))
    never = judge(WINDOWS_10, own)
    assert row(never) == (Outcome.IN_BOX, True, False)
    assert (never.required, never.holds) == ("installed", True)
    booted = judge(WINDOWS_10, replace(own, recorded="10.0.17763.1"), NEW)
    assert row(booted) == (Outcome.IN_BOX, True, True)
    assert judge(WINDOWS_10, own, Version(10, 0, 20000, 1)).outcome is Outcome.OUTDATED


def test_a_record_from_before_an_upgrade_to_windows_10_is_stale() -> None:
    own = replace(NOTHING, active_driver=Version(10, 0, 17763, 1), recorded=str(NEW))
    verdict = judge(WINDOWS_10, own)
    assert row(verdict) == (Outcome.IN_BOX, True, False)
    assert any("stale" in reason for reason in verdict.reasons)


def test_a_guest_without_any_driver_lacks_what_it_needs() -> None:
    assert row(judge(WINDOWS, NOTHING)) == (Outcome.ABSENT, False, False)
    assert row(judge(WINDOWS, NOTHING, NEW)) == (Outcome.ABSENT, False, False)


def test_an_older_driver_than_wanted_is_outdated() -> None:
    assert row(judge(WINDOWS, BOOTED, NEW)) == (Outcome.OUTDATED, False, False)


def test_what_the_guest_recorded_is_current() -> None:
    assert row(judge(WINDOWS, BOOTED)) == (Outcome.CURRENT, True, True)
    new = replace(BOOTED, active_driver=NEW, bound_driver=NEW, recorded=str(NEW))
    assert row(judge(WINDOWS, new, NEW)) == (Outcome.CURRENT, True, True)


def test_versions_are_compared_as_numbers() -> None:
    small = replace(BOOTED, recorded="6.3.9600.9", active_driver=Version(6, 3, 9600, 9))
    assert judge(WINDOWS, small, Version(6, 3, 9600, 10)).outcome is Outcome.OUTDATED


def test_a_2012_r2_that_never_booted_is_unconfirmed() -> None:
    verdict = judge(WINDOWS, IN_BOX)
    assert row(verdict) == (Outcome.UNCONFIRMED, True, False)
    assert verdict.reasons == ("there is no sign of a boot on Hyper-V",)
    assert verdict.required == "confirmed"
    assert not verdict.holds


def test_a_2012_r2_patched_by_rollups_elsewhere_is_unconfirmed() -> None:
    verdict = judge(WINDOWS, replace(NOTHING, active_driver=NEW), NEW)
    assert row(verdict) == (Outcome.UNCONFIRMED, True, False)


def test_injected_and_not_booted_since_says_both_reasons() -> None:
    verdict = judge(WINDOWS, replace(BOOTED, packages=(package(0x60),)), NEW)
    assert row(verdict) == (Outcome.UNCONFIRMED, True, False)
    assert verdict.present == NEW
    text = " ".join(verdict.reasons)
    assert "not booted since" in text
    assert "install pending" in text
    assert "no sign of a boot" not in text


def test_the_same_version_installed_again_is_current() -> None:
    evidence = replace(BOOTED, packages=(package(0x60, OLD),))
    assert row(judge(WINDOWS, evidence, OLD)) == (Outcome.CURRENT, True, True)


def test_a_record_beside_an_install_that_is_pending_says_both() -> None:
    evidence = replace(BOOTED, recorded=str(NEW), packages=(package(0x60),))
    verdict = judge(WINDOWS, evidence, NEW)
    assert row(verdict) == (Outcome.CURRENT, True, True)
    recorded, pending, bound = verdict.reasons
    assert str(NEW) in recorded
    assert pending.startswith("install pending until the next boot")
    assert bound.startswith(f"the last boot bound {OLD}")


def test_booted_with_data_exchange_disabled_says_so() -> None:
    evidence = replace(
        BOOTED,
        active_driver=NEW,
        bound_driver=NEW,
        services=(VMBUS, GuestService("vmickvpexchange", 4)),
    )
    verdict = judge(WINDOWS, evidence, NEW)
    assert row(verdict) == (Outcome.UNCONFIRMED, True, False)
    assert any("disabled in the guest" in reason for reason in verdict.reasons)
    off = judge(WINDOWS, replace(evidence, services=BOOTED.services), NEW)
    assert any("may be off on the host" in reason for reason in off.reasons)


def test_of_a_generalised_guest_only_installation_is_asked() -> None:
    evidence = replace(BOOTED, packages=(package(0x60),))
    verdict = judge(GENERALISED, evidence, NEW)
    assert (verdict.required, verdict.holds) == ("installed", True)
    assert any("generalised" in reason for reason in verdict.reasons)
    assert not judge(GENERALISED, evidence, NEW, "confirmed").holds


def test_a_requirement_that_was_asked_for_wins() -> None:
    evidence = replace(BOOTED, packages=(package(0x60),))
    assert judge(WINDOWS, evidence, NEW, "installed").holds
    assert judge(WINDOWS, evidence, NEW).required_because.startswith("the guest can be booted")


def test_a_record_that_is_no_version_counts_as_absent() -> None:
    assert judge(WINDOWS, replace(IN_BOX, recorded="nonsense")).recorded is None


HYPER_V = Machine("Microsoft Corporation Virtual Machine", hyper_v=True)
DELL = Machine("Dell Inc. Latitude E6430", hyper_v=False)
DATA_EXCHANGE = GuestService("vmickvpexchange", 3)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.data())
def test_nothing_holds_whose_bus_or_disk_does_not_start(data: st.DataObject) -> None:
    """Whatever else is in the evidence: the only way to a verdict that holds is a sound start."""
    uefi = data.draw(st.booleans())
    windows = data.draw(st.sampled_from([WINDOWS, WINDOWS_10, GENERALISED]))
    driver = data.draw(st.sampled_from([NEW, Version(10, 0, 17763, 1)]))
    sound = True
    services = [DATA_EXCHANGE]
    for name in ("vmbus", "storvsc"):
        start = data.draw(st.sampled_from([0, 0, 0, 1, 3, 4, None]))
        machine = data.draw(st.sampled_from([None, DELL, HYPER_V]))
        overrides = data.draw(st.sampled_from([(), (0,), (3,), (0, 3)]))
        size = data.draw(st.sampled_from([None, 0, 70_000, 70_000, 70_000]))
        path = data.draw(st.sampled_from(["", "Windows\\x.sys"]))
        there = data.draw(st.integers(0, 9)) > 0
        if there:
            found = tuple(StartOverride("7", item, machine) for item in overrides)
            services.append(GuestService(name, start, found, path, size))
        good = there and start == 0 and size not in (None, 0)
        good = good and not (machine is HYPER_V and 3 in overrides)
        sound = sound and (good or (name == "storvsc" and not uefi))
    evidence = replace(
        BOOTED,
        active_driver=data.draw(st.sampled_from([driver, None])) if sound else driver,
        bound_driver=driver,
        recorded=str(driver),
        services=tuple(services),
        boots_by_uefi=uefi,
    )
    verdict = judge(windows, evidence)
    assert (verdict.outcome is Outcome.DISABLED) == (not sound)
    assert sound or not (verdict.installed or verdict.confirmed or verdict.holds)


def test_the_rows_before_and_after_disabled() -> None:
    faulty = replace(BOOTED, services=(VMBUS._replace(start=4), DATA_EXCHANGE))
    broken = replace(faulty, packages=(package(0x65),))
    assert judge(WINDOWS, broken, NEW).outcome is Outcome.BROKEN
    assert judge(WINDOWS, replace(faulty, recorded=str(NEW))).outcome is Outcome.DISABLED
    assert judge(WINDOWS, faulty, NEW).outcome is Outcome.DISABLED


def test_what_a_package_brings_at_the_next_boot_is_not_missing_yet() -> None:
    """A system without the components has no service; a package that is installed made one."""
    bare = replace(NOTHING, services=())
    assert judge(WINDOWS, bare).outcome is Outcome.ABSENT
    pending = replace(bare, packages=(package(0x60),))
    assert judge(WINDOWS, pending, NEW).outcome is Outcome.UNCONFIRMED
    assert judge(WINDOWS_10, pending, NEW).outcome is Outcome.DISABLED
    assert judge(WINDOWS, replace(bare, packages=(package(0x70),)), NEW).outcome is Outcome.DISABLED
    off = replace(pending, services=(VMBUS._replace(start=4),))
    assert judge(WINDOWS, off, NEW).outcome is Outcome.DISABLED
