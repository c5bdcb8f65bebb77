"""Facts and evidence of phony guests, against libregf and pefile; verdicts of what fleets hold."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures import disks, guests
from fixtures.guests import GuestSpec, Serviced
from fixtures.hives import Data
from imagetool.disk import MemorySource
from imagetool.errors import (
    ImagetoolError,
    NoOperatingSystem,
    NotFound,
    WrongUsage,
)
from imagetool.guest.image import open_image
from imagetool.guest.inspection import inspect_image
from imagetool.guest.registry_keys import find_value
from imagetool.guest.windows.components import read_integration_components
from imagetool.guest.windows.facts import read_windows_facts
from imagetool.guest.windows.services import driver_path, read_services
from imagetool.guest.windows.version_resource import read_version
from imagetool.package import Version, open_package
from imagetool.verdict.verify import Criteria, verify
from imagetool.verdict.windows import Outcome
from tests.servicing.injecting import prepare

Build = Callable[[GuestSpec], Path]
IN_BOX = Version(6, 3, 9600, 16384)


def test_the_facts_of_the_template(template: Path) -> None:
    with open_image(template) as image:
        facts = read_windows_facts(image.windows())
    assert facts.product == "Windows Server 2012 R2 Standard"
    assert (facts.version, facts.architecture) == (Version(6, 3, 9600), "amd64")
    assert facts.computer_name == "WIN-TEMPLATE"
    assert not facts.generalised
    assert facts.last_host is not None
    assert facts.last_host.host == "hv01.example.org"
    assert facts.last_host.reported_at == guests.BOOTED
    assert facts.emulation_marks == ()


def test_the_evidence_of_the_template(template: Path) -> None:
    with open_image(template) as image:
        found = read_integration_components(image.windows())
    assert found.recorded == "6.3.9600.16384"
    assert found.recorded_at == guests.BOOTED
    versions = (found.active_driver, found.bound_driver, found.vmbus_sys, found.icsvc_dll)
    assert versions == (IN_BOX,) * 4
    assert found.data_exchange_start == 3
    assert found.packages == ()


def test_the_value_equals_what_hivex_reads(
    template: Path, oracle: Callable[[str], str], tmp_path: Path
) -> None:
    with open_image(template) as image:
        for name, key, value in (
            ("SOFTWARE", "Microsoft\\Virtual Machine\\Auto", "IntegrationServicesVersion"),
            ("SYSTEM", "DriverDatabase\\DriverInfFiles\\wvmbus.inf", "Active"),
            ("SYSTEM", "ControlSet001\\Services\\vmickvpexchange", "Start"),
        ):
            source = image.windows().volume.lookup(f"Windows/System32/config/{name}").open()
            hive = tmp_path / name
            hive.write_bytes(source.read_at(0, source.size))
            done = subprocess.run(
                [oracle("hivexget"), hive, key, value], capture_output=True, text=True, check=True
            )
            ours = find_value(image, f"HKLM\\{name}\\{key}", value)
            assert done.stdout.strip() in (ours.text(), f"dword:0000000{ours.text()}")


def test_versions_of_programs_equal_what_pefile_reads(template: Path) -> None:
    import pefile

    with open_image(template) as image:
        volume = image.windows().volume
        for path in ("System32/ntoskrnl.exe", "System32/drivers/storvsc.sys", "System32/icsvc.dll"):
            source = volume.lookup(f"Windows/{path}").open()
            info = pefile.PE(data=source.read_at(0, source.size)).VS_FIXEDFILEINFO[0]
            theirs = Version.from_number(info.FileVersionMS << 32 | info.FileVersionLS)
            assert read_version(source) == theirs == IN_BOX


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_a_damaged_program_has_no_version_and_does_no_harm(
    template: Path, data: st.DataObject
) -> None:
    with open_image(template) as image:
        source = image.windows().volume.lookup("Windows/System32/icsvc.dll").open()
        program = bytearray(source.read_at(0, source.size))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(program) - 1))
        program[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0xFF]))
    read_version(MemorySource(bytes(program[: data.draw(st.integers(0, len(program)))])))


@pytest.mark.parametrize(
    ("spec", "verdict", "required", "holds", "words"),
    [
        (guests.SERVER_2012_R2, Outcome.OUTDATED, "confirmed", False, "older than wanted"),
        (guests.NEVER_BOOTED, Outcome.OUTDATED, "confirmed", False, "older than wanted"),
        (guests.GENERALISED, Outcome.OUTDATED, "installed", False, "older than wanted"),
        (guests.CONTRADICTORY, Outcome.CONTRADICTORY, "confirmed", False, "is newer than both"),
        (guests.WINDOWS_10, Outcome.IN_BOX, "installed", True, "part of this Windows"),
        (
            replace(guests.WINDOWS_10, recorded="6.3.9600.18692"),
            Outcome.IN_BOX,
            "installed",
            True,
            "stale",
        ),
        (
            replace(guests.NEVER_BOOTED, driver="6.3.9600.19456"),
            Outcome.UNCONFIRMED,
            "confirmed",
            False,
            "no sign of a boot on Hyper-V",
        ),
    ],
)
def test_what_fleets_hold_against_a_disc(
    build: Build,
    disc: Path,
    spec: GuestSpec,
    verdict: Outcome,
    required: str,
    holds: bool,
    words: str,
) -> None:
    with open_image(build(spec)) as image, open_package(disc) as media:
        found = verify(image, Criteria(media=[media])).verdict
    assert (found.outcome, found.required, found.holds) == (verdict, required, holds)
    assert words in " ".join(found.reasons)


def test_without_a_wanted_version_the_guests_own_counts(build: Build) -> None:
    for spec, name in (
        (guests.SERVER_2012_R2, Outcome.CURRENT),
        (guests.NEVER_BOOTED, Outcome.UNCONFIRMED),
        (guests.DATA_EXCHANGE_DISABLED, Outcome.CURRENT),
    ):
        with open_image(build(spec)) as image:
            assert verify(image).verdict.outcome is name


DELL = (0, "Dell Inc.", "Latitude E6430")
VIRTUAL = (1, "Microsoft Corporation", "Virtual Machine")


def test_an_override_of_another_machine_is_a_warning(build: Build) -> None:
    for machines, named in (
        ((DELL, VIRTUAL), "on Dell Inc. Latitude E6430"),
        ((VIRTUAL,), "on a machine that is not known (number 0)"),
    ):
        spec = replace(guests.SERVER_2012_R2, boot_override=3, machines=machines)
        with open_image(build(spec)) as image:
            found = {item.name: item for item in read_services(image.windows())}
            verification = verify(image)
            assert inspect_image(image).warnings == verification.warnings
        assert (found["storvsc"].start, found["storvsc"].start_override) == (0, 3)
        assert found["storvsc"].effective_start == 0
        assert found["vmickvpexchange"].effective_start == 3
        assert "vmicvmsession" not in found
        assert verification.verdict.outcome is Outcome.CURRENT
        (warning,) = verification.warnings
        assert warning.startswith("vmbus (3), storvsc (3)")
        assert named in warning
        assert verification.holds
        with open_image(build(spec)) as image:
            assert not verify(image, Criteria(strict=True)).holds


GENERATION_1 = replace(guests.SERVER_2012_R2, generation=1)
WINDOWS_10 = replace(
    guests.SERVER_2012_R2, product="Windows 10 Pro", major=10, minor=0, build=17763, ubr=1
)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (replace(guests.SERVER_2012_R2, starts=(("vmbus", 4),)), "vmbus does not start at boot"),
        (replace(guests.SERVER_2012_R2, starts=(("vmbus", 3),)), "Start is 3, not 0"),
        (replace(guests.SERVER_2012_R2, starts=(("vmbus", None),)), "no such driver service"),
        (replace(guests.SERVER_2012_R2, starts=(("storvsc", 1),)), "storvsc does not start"),
        (replace(guests.SERVER_2012_R2, starts=(("storvsc", None),)), "storvsc does not start"),
        (replace(guests.SERVER_2012_R2, missing_files=("vmbus.sys",)), "vmbus.sys is not on"),
        (replace(guests.SERVER_2012_R2, missing_files=("storvsc.sys",)), "storvsc.sys is not on"),
        (
            replace(guests.SERVER_2012_R2, boot_override=3, machines=((0, *VIRTUAL[1:]),)),
            "StartOverride for a Hyper-V machine is 3",
        ),
        (replace(GENERATION_1, starts=(("vmbus", 4),)), "vmbus does not start at boot"),
        (replace(GENERATION_1, starts=(("storvsc", 4),)), ""),
        (replace(GENERATION_1, missing_files=("storvsc.sys",)), ""),
        (replace(WINDOWS_10, starts=(("vmbus", 4),)), "vmbus does not start at boot"),
        (replace(guests.SERVER_2012_R2, default_set=2, starts=(("vmbus", 4),)), "Start is 4"),
    ],
)
def test_a_driver_that_does_not_start_at_boot_disables(
    build: Build, spec: guests.GuestSpec, reason: str
) -> None:
    with open_image(build(spec)) as image:
        found = verify(image)
    assert (found.verdict.outcome is Outcome.DISABLED) == bool(reason)
    assert found.holds == (not reason)
    assert reason in " | ".join(found.verdict.reasons)
    if reason:
        assert not found.verdict.installed
        assert not found.verdict.confirmed


def test_the_control_set_is_the_one_that_boots_next(build: Build) -> None:
    spec = replace(guests.SERVER_2012_R2, default_set=2, starts=(("vmbus", 4),))
    with open_image(build(spec)) as image:
        start = find_value(image, "HKLM\\SYSTEM\\CurrentControlSet\\Services\\vmbus", "Start")
        assert start.data == 4
        (warning,) = [text for text in verify(image).warnings if "Select" in text]
    assert "the last boot used ControlSet001, the next one uses ControlSet002" in warning


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", "Windows\\System32\\drivers\\vmbus.sys"),
        ("System32\\drivers\\x.sys", "Windows\\System32\\drivers\\x.sys"),
        ("\\SystemRoot\\System32\\x.sys", "Windows\\System32\\x.sys"),
        ('"%SystemRoot%\\x.sys"', "Windows\\x.sys"),
        ("\\??\\C:\\Program Files\\x.sys", "Program Files\\x.sys"),
        ("c:\\x.sys", "x.sys"),
        ("D:\\x.sys", ""),
        ("\\??\\Volume{1}\\x.sys", ""),
    ],
)
def test_the_file_of_a_driver_is_what_imagepath_names(text: str, path: str) -> None:
    assert driver_path(text, "vmbus") == path


def test_windows_7_has_its_driver_in_the_driver_store(build: Build, disc: Path) -> None:
    newer = Serviced("6.x", "6.3.9600.19456", 0x60)
    with open_image(build(guests.SERVER_2008_R2)) as image, open_package(disc) as media:
        assert (image.disk.format, image.partition_table.scheme) == ("VHD", "mbr")
        found = read_integration_components(image.windows())
        verdict = verify(image, Criteria(media=[media])).verdict
    assert found.active_driver == Version(6, 1, 7601, 17514)
    assert found.active_driver_package.startswith("wvmbus.inf_amd64_neutral_")
    assert found.data_exchange_start == 2
    assert verdict.outcome is Outcome.OUTDATED
    with open_image(build(replace(guests.SERVER_2008_R2, serviced=(newer,)))) as image:
        # Two packages of one driver: the newest DriverVer is what the next boot runs.
        assert read_integration_components(image.windows()).active_driver == Version(
            6, 3, 9600, 19456
        )


def test_before_windows_7_the_driver_itself_is_all_there_is(build: Build) -> None:
    with open_image(build(guests.VISTA)) as image:
        found = read_integration_components(image.windows())
        assert verify(image).verdict.outcome is Outcome.CURRENT
    assert (found.active_driver, found.active_driver_package) == (Version(6, 1, 7601, 17514), "")


NEW = "6.3.9600.19456"


@pytest.mark.parametrize(
    ("spec", "verdict", "holds", "words"),
    [
        (guests.NEVER_BOOTED, Outcome.OUTDATED, False, "older than wanted"),
        (guests.ROLLED_UP, Outcome.OUTDATED, False, "6.3.9600.18398 is older"),
        (replace(guests.ROLLED_UP, driver=NEW), Outcome.UNCONFIRMED, False, "no sign of a boot"),
        (guests.WINDOWS_10, Outcome.IN_BOX, True, "part of this Windows"),
        (guests.UPGRADED, Outcome.IN_BOX, True, "stale, left by an upgrade"),
        (
            replace(guests.SERVER_2012_R2, driver=NEW, serviced=(Serviced("6.2", NEW),)),
            Outcome.UNCONFIRMED,
            False,
            "not booted since",
        ),
        (
            GuestSpec(driver=NEW, bound=NEW, data_exchange_start=4),
            Outcome.UNCONFIRMED,
            False,
            "is disabled in the guest",
        ),
        (GuestSpec(driver=NEW, bound=NEW), Outcome.UNCONFIRMED, False, "may be off on the host"),
        (
            GuestSpec(driver=NEW, bound=NEW, recorded=NEW, serviced=(Serviced("6.2", NEW),)),
            Outcome.CURRENT,
            True,
            "the guest recorded",
        ),
        (
            replace(guests.SERVER_2008_R2, serviced=(Serviced("6.x", NEW, 0x60, payload=False),)),
            Outcome.UNCONFIRMED,
            False,
            "install pending until the next boot",
        ),
        (
            GuestSpec(serviced=(Serviced("6.2", NEW, payload=False),)),
            Outcome.CONTRADICTORY,
            False,
            "its manifest is missing",
        ),
        (
            GuestSpec(serviced=(Serviced("6.2", NEW, 0x65),)),
            Outcome.BROKEN,
            False,
            "partially installed",
        ),
        (
            replace(guests.GENERALISED, driver=NEW, serviced=(Serviced("6.2", NEW),)),
            Outcome.UNCONFIRMED,
            True,
            "generalised",
        ),
        (
            replace(guests.GENERALISED, driver=NEW, bound=NEW, recorded=NEW),
            Outcome.CURRENT,
            True,
            "",
        ),
        (guests.SERVER_2012, Outcome.OUTDATED, False, "older than wanted"),
    ],
)
def test_what_real_fleets_hold(
    build: Build, spec: GuestSpec, verdict: Outcome, holds: bool, words: str
) -> None:
    with open_image(build(spec)) as image:
        found = verify(image, Criteria(Version.parse(NEW))).verdict
    assert (found.outcome, found.holds) == (verdict, holds), found.reasons
    assert words in " ".join(found.reasons)


def test_the_same_version_installed_again_is_current(build: Build, disc: Path) -> None:
    spec = GuestSpec(driver=NEW, bound=NEW, recorded=NEW, serviced=(Serviced("6.2", NEW),))
    with open_image(build(spec)) as image, open_package(disc) as media:
        assert verify(image, Criteria(media=[media])).verdict.outcome is Outcome.CURRENT


def test_pending_operations_are_said_and_an_empty_list_of_sessions_is_healthy(build: Build) -> None:
    with open_image(build(guests.SERVER_2012_R2)) as image:
        found = inspect_image(image)
        assert found.pending is not None
        assert found.pending.operations == found.pending.notes == ()
        assert found.warnings == ()
    with open_image(build(guests.PENDING)) as image:
        found = inspect_image(image)
        assert found.pending is not None
        said = " | ".join(found.pending.operations)
    for words in ("1 packages are pending", "RebootPending", "30500000_1", "pending.xml"):
        assert words in said
    assert found.pending.notes == ("2 files are to be renamed at the next start",)
    assert len(found.pending.operations) == 4
    with open_image(build(guests.PENDING)) as image:
        judged = verify(image, Criteria(strict=True))
    assert judged.warnings == tuple(f"work is pending: {text}" for text in said.split(" | "))
    assert not judged.holds


@pytest.mark.parametrize(
    ("recorded", "shown"),
    [
        (["6.3.9600.19456"], "REG_MULTI_SZ '6.3.9600.19456'"),
        (b"6.3.9600.19456", "REG_BINARY '362e"),
        (6, "REG_DWORD '6'"),
        ("none", "REG_SZ 'none'"),
        ("", "REG_SZ ''"),
    ],
)
def test_a_recorded_version_that_no_guest_writes_counts_as_none_and_is_said(
    build: Callable[..., Path], recorded: Data, shown: str
) -> None:
    with open_image(build(replace(guests.SERVER_2012_R2, recorded=recorded))) as image:
        judged = verify(image)
    assert judged.verdict.outcome is Outcome.UNCONFIRMED
    assert judged.verdict.recorded is None
    assert [f"IntegrationServicesVersion is {shown}" in text for text in judged.warnings] == [True]
    assert not judged.holds


def test_keys_are_found_as_people_write_them(template: Path) -> None:
    auto = "SOFTWARE\\Microsoft\\Virtual Machine\\Auto"
    with open_image(template) as image:
        for root in ("HKLM", "hklm", "HKEY_LOCAL_MACHINE"):
            value = find_value(image, f"{root}\\{auto}", "integrationservicesVERSION")
            assert value.data == "6.3.9600.16384"
        start = find_value(image, "HKLM\\SYSTEM\\CurrentControlSet\\Services\\vmbus", "Start")
        assert start.data == 0
        for path, error in (
            ("HKCU\\Software", WrongUsage),
            ("HKLM", WrongUsage),
            ("", WrongUsage),
            ("HKLM\\NONE\\x", NotFound),
            (f"HKLM\\{auto}\\x", NotFound),
        ):
            with pytest.raises(error):
                find_value(image, path, "x")
        with pytest.raises(NotFound, match="no value none"):
            find_value(image, f"HKLM\\{auto}", "none")


def test_a_verdict_touches_little_of_a_large_disk(template: Path) -> None:
    from imagetool.disk import FileSource

    sizes: list[int] = []
    original = FileSource.read_at

    def counted(self: FileSource, offset: int, length: int) -> bytes:
        data = original(self, offset, length)
        sizes.append(len(data))
        return data

    patch = pytest.MonkeyPatch()
    patch.setattr(FileSource, "read_at", counted)
    with open_image(template) as image:
        verify(image)
    patch.undo()
    assert len(sizes) < 150
    assert sum(sizes) < 700_000


@pytest.fixture(scope="module")
def damaged(template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A copy of the template to be damaged and mended again, and its bytes."""
    path = tmp_path_factory.mktemp("damaged") / "image.vhdx"
    whole = template.read_bytes()
    path.write_bytes(whole)
    return path, whole


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 32))
def test_a_damaged_guest_ends_in_our_errors_only(damaged: tuple[Path, bytes], seed: int) -> None:
    path, whole = damaged
    noise = random.Random(seed)
    offsets = []
    for _ in range(40):
        offset = noise.randrange(len(whole))
        kind = noise.choice([b"FILE0", b"INDX", b"nk", b"vk", b"lh", b"hbin"])
        near = whole.find(kind, offset, offset + (4 << 20))
        offset = (near if near >= 0 else offset) + noise.randrange(100)
        if offset < len(whole):
            offsets.append(offset)
    with path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            file.write(bytes([noise.randrange(256)]))
    try:
        with open_image(path) as opened:
            verify(opened)
    except ImagetoolError as error:
        assert error.exit_code in (1, 3)
    finally:
        with path.open("r+b") as file:
            for offset in offsets:
                file.seek(offset)
                file.write(whole[offset : offset + 1])


def test_a_guest_that_carries_its_own_needs_nothing(
    build: Build, disc: Path, tmp_path: Path
) -> None:
    plan = prepare(build(guests.WINDOWS_10), disc, tmp_path / "serviced.vhdx").plan
    assert plan.nothing_to_do
    assert "carries its own" in plan.reason


@pytest.mark.usefixtures("writers")
def test_a_windows_without_its_system_hive_is_damaged(template: Path, tmp_path: Path) -> None:
    import shutil

    from imagetool.lab.workers import FileChange, write_files

    path = Path(shutil.copyfile(template, tmp_path / "image.vhdx"))
    with open_image(path) as image:
        partition = image.partition_table.partitions[3]
    changes = [FileChange("Windows\\System32\\config\\SYSTEM", b"no hive at all")]
    write_files(path, partition.offset, partition.size, changes)
    with open_image(path) as image, pytest.raises(ImagetoolError) as caught:
        verify(image)
    assert caught.value.exit_code == 3


def test_a_disk_without_windows_is_said_to_hold_none(tmp_path: Path) -> None:
    path = tmp_path / "zeros.img"
    path.write_bytes(bytes(1 << 20))
    with open_image(path) as image, pytest.raises(NoOperatingSystem, match="no Windows was found"):
        image.windows()


DAMAGED_HIVES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda hive: b"",
    "zeros": lambda hive: bytes(len(hive)),
    "base block": lambda hive: b"regf" + b"\xff" * 508 + hive[512:],
    "root key": lambda hive: hive[: 4096 + 32] + bytes(168) + hive[4096 + 200 :],
    "key node": lambda hive: hive.replace(b"CurrentVersion", b"\0" * 14),
}


@pytest.mark.parametrize("kind", DAMAGED_HIVES)
def test_beside_a_windows_that_can_be_read_any_damage_of_another_is_a_warning(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with open_image(build(guests.SMALL)) as image:
        source = image.windows().volume.lookup("Windows/System32/config/SOFTWARE").open()
        hive = DAMAGED_HIVES[kind](source.read_at(0, source.size))
    original = disks.format_ntfs

    def formatted(volume: Path, size: int, start: int, label: str) -> None:
        original(volume, size, start, label)
        if label == "Recovery":
            config = tmp_path / "other/Windows/System32/config"
            config.mkdir(parents=True)
            (config / "SOFTWARE").write_bytes(hive)
            disks.fill(volume, tmp_path / "other", tmp_path)

    monkeypatch.setattr(disks, "format_ntfs", formatted)
    path = tmp_path / "image.vhdx"
    guests.build_guest(guests.SMALL, path)
    with open_image(path) as image:
        found = verify(image)
    assert found.verdict.outcome is Outcome.CURRENT
    (warning,) = found.warnings
    assert "partition 3" in warning or "volume 3" in warning
    assert "SOFTWARE" in warning
    assert not found._replace(criteria=Criteria(strict=True)).holds
