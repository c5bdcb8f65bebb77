"""Whether a guest starts its integration components: overrides, files, control sets.

The hives are hivex's; those of a Dell and of a VirtualBox machine are real.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures import disks, guests
from fixtures.disks import MIB, generation_2
from fixtures.guests import GuestSpec, Serviced, software_of, system_of, write_tree
from imagetool.errors import Corrupt, ServicingFailed
from imagetool.guest.image import open_image
from imagetool.guest.inspection import inspect_image
from imagetool.guest.windows.services import driver_path
from imagetool.verdict.verify import Criteria, Verification, verify
from imagetool.verdict.windows import Outcome
from tests.program import invoke

Build = Callable[[GuestSpec], Path]

SERVER = guests.SMALL
WINDOWS_10 = replace(guests.WINDOWS_10, size=SERVER.size)
HYPER_V = (0, "Microsoft Corporation", "Virtual Machine")
BARE_VISTA = replace(
    guests.VISTA,
    size=SERVER.size,
    starts=(("vmbus", None), ("storvsc", None), ("storflt", None)),
    missing_files=("vmbus.sys", "storvsc.sys"),
    bound=None,
    recorded=None,
)


def judged(build: Build, spec: GuestSpec) -> Verification:
    with open_image(build(spec)) as image:
        return verify(image)


@pytest.mark.parametrize("system", [SERVER, WINDOWS_10], ids=["2012 R2", "10"])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"empty_files": ("vmbus.sys",)}, "vmbus.sys has 0 bytes"),
        ({"image_paths": (("vmbus", "\\??\\D:\\drivers\\vmbus.sys"),)}, "D:\\drivers\\vmbus.sys"),
        ({"image_paths": (("vmbus", "\\Device\\X\\vmbus.sys"),)}, "\\Device\\X\\vmbus.sys"),
        ({"image_paths": (("vmbus", "System32\\drivers"),)}, "System32\\drivers is not on"),
        ({"image_paths": (("storvsc", "System32\\drivers\\x.sys"),)}, "x.sys is not on"),
        ({"starts": (("vmbus", 1),)}, "Start is 1"),
        ({"boot_override": 3, "machines": (HYPER_V,)}, "for a Hyper-V machine is 3"),
        ({"boot_override": 3, "bios_versions": ((0, "VRTUAL - 6001702"),)}, "machine is 3"),
    ],
)
def test_each_way_not_to_start_disables(
    build: Build, system: GuestSpec, changes: dict[str, object], words: str
) -> None:
    found = judged(build, replace(system, **changes))  # type: ignore[arg-type]
    assert found.verdict.outcome is Outcome.DISABLED
    assert not found.holds
    assert words in " | ".join(found.verdict.reasons)
    with open_image(build(replace(system, **changes))) as image:  # type: ignore[arg-type]
        assert set(found.verdict.reasons) <= set(inspect_image(image).warnings)


@pytest.mark.parametrize("system", [SERVER, WINDOWS_10], ids=["2012 R2", "10"])
@pytest.mark.parametrize("generation", [1, 2])
def test_a_sound_guest_holds_without_a_word(
    build: Build, system: GuestSpec, generation: int
) -> None:
    found = judged(build, replace(system, generation=generation))
    assert found.holds
    assert found.warnings == ()
    assert found.components.boots_by_uefi == (generation == 2)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "system32\\DRIVERS\\VMBUS.SYS",
        "\\SystemRoot\\System32\\drivers\\vmbus.sys",
        "%SystemRoot%\\System32\\drivers\\vmbus.sys",
        "\\??\\C:\\Windows\\System32\\drivers\\vmbus.sys",
    ],
)
def test_an_image_path_is_written_in_several_ways(build: Build, path: str) -> None:
    found = judged(build, replace(SERVER, image_paths=(("vmbus", path),)))
    assert found.holds, found.verdict.reasons


@given(st.text(alphabet='\\/?%:.Cc W"', max_size=12), st.text(max_size=40))
def test_whatever_an_image_path_says_it_leads_somewhere_or_nowhere(start: str, rest: str) -> None:
    path = driver_path(start + rest, "vmbus")
    assert not path.startswith("\\??\\")


@pytest.mark.parametrize("bios", ["VBOX   - 1", "VRTUALBOX - 1", "DELL   - 1072009"])
def test_a_machine_without_a_name_is_named_by_its_bios(build: Build, bios: str) -> None:
    """Windows 8.1 records no manufacturer."""
    found = judged(build, replace(SERVER, boot_override=3, bios_versions=((0, bios),)))
    assert found.holds
    (warning,) = found.warnings
    assert f"on a machine with the BIOS {' '.join(bios.split())};" in warning


def test_of_two_machines_with_one_number_that_of_hyper_v_counts(build: Build) -> None:
    spec = replace(SERVER, boot_override=3, machines=(HYPER_V,), bios_versions=((0, "DELL - 1"),))
    assert judged(build, spec).verdict.outcome is Outcome.DISABLED


@pytest.mark.parametrize(
    ("name", "spec", "machine"),
    [
        ("windows10-SYSTEM-dirty", WINDOWS_10, "Dell Inc. Latitude E6430"),
        ("windows81-SYSTEM-dirty-nolog", SERVER, "a machine with the BIOS VBOX - 1"),
    ],
)
@pytest.mark.usefixtures("build")
def test_real_systems_from_elsewhere_are_sound_and_warned_of(
    unpack: Callable[[str], Path], tmp_path: Path, name: str, spec: GuestSpec, machine: str
) -> None:
    tree = tmp_path / "tree"
    write_tree(spec, tree, tmp_path, software_of(spec), system_of(spec))
    config = tree / "Windows/System32/config"
    shutil.copyfile(unpack(f"hive/{name}.xz"), config / "SYSTEM")
    if not name.endswith("nolog"):
        for log in ("LOG1", "LOG2"):
            shutil.copyfile(unpack(f"hive/{name}.{log}.xz"), config / f"SYSTEM.{log}")
    disk = tmp_path / "image.vhdx"
    generation_2(tree, disk, tmp_path, 256 * MIB)
    with open_image(disk) as image:
        found = verify(image, Criteria(require="installed"))
    assert found.verdict.outcome is not Outcome.DISABLED, found.verdict.reasons
    for driver in ("vmbus", "storvsc", "storflt"):
        service = found.components.service(driver)
        assert service is not None
        assert [item[:2] for item in service.overrides] == [("0", 3)]
        assert service.effective_start == 0
    (warning,) = [text for text in found.warnings if "override" in text]
    assert f"on {machine};" in warning


def test_a_package_that_is_pending_brings_what_a_vista_lacks(build: Build) -> None:
    assert judged(build, BARE_VISTA).verdict.outcome is Outcome.ABSENT
    pending = replace(BARE_VISTA, serviced=(Serviced("6.x", "6.3.9600.19456", 0x60),))
    found = judged(build, pending)
    assert (found.verdict.outcome, found.verdict.installed) == (Outcome.UNCONFIRMED, True)


@pytest.mark.usefixtures("build")
def test_a_gpt_without_an_efi_system_partition_does_not_boot_by_uefi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disks, "ESP", disks.BASIC)
    path = tmp_path / "image.vhdx"
    guests.build_guest(replace(SERVER, starts=(("storvsc", 4),)), path)
    with open_image(path) as image:
        assert image.partition_table.scheme == "gpt"
        assert verify(image).verdict.outcome is Outcome.CURRENT


def test_a_bare_hive_has_the_same_control_set(
    build: Build, oracle: Callable[[str], str], tmp_path: Path
) -> None:
    hive = tmp_path / "SYSTEM"
    with open_image(build(replace(SERVER, default_set=2, starts=(("vmbus", 4),)))) as image:
        source = image.windows().volume.lookup("Windows/System32/config/SYSTEM").open()
        hive.write_bytes(source.read_at(0, source.size))
    theirs = subprocess.run(
        [oracle("hivexget"), hive, "ControlSet002\\Services\\vmbus", "Start"],
        capture_output=True,
        check=True,
    )
    got = invoke("registry", "get", hive, "CurrentControlSet\\Services\\vmbus", "Start")
    assert got.out == theirs.stdout == b"4\n"
    assert "the next one uses ControlSet002" in got.err


@pytest.mark.parametrize("number", [0, 3, 0xFFFFFFFF, None])
@pytest.mark.usefixtures("build")
def test_without_a_control_set_no_windows_boots(tmp_path: Path, number: int | None) -> None:
    system = system_of(SERVER)
    system.forget("Select", "Default")
    if number is not None:
        system.key("Select", {"Default": number})
    tree, path = tmp_path / "tree", tmp_path / "image.vhdx"
    write_tree(SERVER, tree, tmp_path, software_of(SERVER), system)
    hive = tmp_path / "SYSTEM"
    shutil.copyfile(tree / "Windows/System32/config/SYSTEM", hive)
    generation_2(tree, path, tmp_path, SERVER.size)
    with open_image(path) as image, pytest.raises(Corrupt, match=f"Default is {number}"):
        verify(image)
    for done in (
        invoke("verify", path),
        invoke("registry", "get", hive, "CurrentControlSet\\Services\\vmbus", "Start"),
    ):
        assert done.code == 3
        assert "no control set boots next" in done.err


@pytest.mark.usefixtures("writers")
def test_a_boot_that_would_not_start_the_bus_is_not_played(build: Build, tmp_path: Path) -> None:
    from imagetool.lab.boot import boot

    path = tmp_path / "image.vhdx"
    shutil.copyfile(build(replace(SERVER, starts=(("vmbus", 4),))), path)
    before = path.read_bytes()
    with pytest.raises(ServicingFailed, match="Start is 4"):
        boot(path, force=True)
    assert path.read_bytes() == before
