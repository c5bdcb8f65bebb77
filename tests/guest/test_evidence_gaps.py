"""What lies in an image and contradicts the rest of it: each gap is a verdict, or a warning."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures import disks, guests
from fixtures.disks import generation_2
from fixtures.guests import GuestSpec, Serviced, software_of, system_of, write_tree
from fixtures.hives import RegistryText
from fixtures.programs import stub
from imagetool.guest.image import open_image
from imagetool.verdict.verify import Verification, verify
from imagetool.verdict.windows import Outcome

Build = Callable[[GuestSpec], Path]
NEW = "6.3.9600.19456"
SPEC = replace(guests.SMALL, driver=NEW, bound=NEW, recorded=NEW, serviced=(Serviced("6.2", NEW),))
VMBUS = "ControlSet001\\Services\\vmbus"
PACKAGE = Serviced("6.2", NEW).identity("amd64")
STATE = f"{guests.CBS}\\Packages\\{PACKAGE}"


def judged(
    folder: Path,
    change: Callable[[Path], None] = lambda tree: None,
    hives: Callable[[RegistryText, RegistryText], None] = lambda software, system: None,
    spec: GuestSpec = SPEC,
) -> Verification:
    """The verdict on a guest whose volume or hives were changed before the disk was made."""
    tree, path = folder / "tree", folder / "image.vhdx"
    software, system = software_of(spec), system_of(spec)
    hives(software, system)
    write_tree(spec, tree, folder, software, system)
    change(tree)
    generation_2(tree, path, folder, spec.size)
    with open_image(path) as image:
        return verify(image)


def store(tree: Path) -> list[Path]:
    return [item for item in (tree / "Windows/WinSxS").iterdir() if item.name != "Manifests"]


def no_directories(tree: Path) -> None:
    for folder in store(tree):
        shutil.rmtree(folder)


def empty_directories(tree: Path) -> None:
    for folder in store(tree):
        for file in folder.iterdir():
            file.unlink()


def no_program_in_the_store(tree: Path) -> None:
    next(tree.glob("Windows/WinSxS/amd64_wvmbus.inf*/vmbus.sys")).unlink()
    for file in tree.glob("Windows/WinSxS/amd64_wvmbus.inf*/*.sys"):
        file.write_bytes(b"")


def no_manifests(tree: Path) -> None:
    for folder in store(tree):
        (tree / f"Windows/WinSxS/Manifests/{folder.name}.manifest").unlink()


def empty_manifest(tree: Path) -> None:
    next(tree.glob("Windows/WinSxS/Manifests/amd64_wvmbus.inf*")).write_bytes(b"")


def no_program_in_the_driver_store(tree: Path) -> None:
    for file in tree.glob("Windows/System32/DriverStore/FileRepository/*/*.sys"):
        file.unlink()


def empty_infs(tree: Path) -> None:
    for file in tree.glob("Windows/System32/DriverStore/FileRepository/*/*.inf"):
        file.write_bytes(b"")


def empty_catalog(tree: Path) -> None:
    (tree / f"Windows/servicing/Packages/{PACKAGE}.cat").write_bytes(b"")


def empty_package_manifest(tree: Path) -> None:
    (tree / f"Windows/servicing/Packages/{PACKAGE}.mum").write_bytes(b"")


def manifest_of_another_package(tree: Path) -> None:
    manifest = tree / f"Windows/servicing/Packages/{PACKAGE}.mum"
    manifest.write_bytes(manifest.read_bytes().replace(b"19456", b"19457"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (no_directories, "WinSxS\\amd64_wvmbus.inf"),
        (empty_directories, "…\\wvmbus.inf"),
        (no_program_in_the_store, "…\\*.sys"),
        (no_manifests, "Manifests\\amd64_wvmbus.inf"),
        (empty_manifest, "Manifests\\amd64_wvmbus.inf"),
        (no_program_in_the_driver_store, "\\vmbus.sys"),
        (empty_infs, "\\wvmbus.inf"),
        (empty_catalog, "its catalog"),
        (empty_package_manifest, "its manifest"),
        (manifest_of_another_package, "the identity"),
    ],
)
@pytest.mark.usefixtures("build")
def test_an_installed_package_without_its_payload_is_contradictory(
    tmp_path: Path, change: Callable[[Path], None], words: str
) -> None:
    verdict = judged(tmp_path, change).verdict
    assert verdict.outcome is Outcome.CONTRADICTORY
    assert any(words in reason for reason in verdict.reasons), verdict.reasons


def test_a_sound_package_is_current_without_a_word(build: Build) -> None:
    with open_image(build(SPEC)) as image:
        found = verify(image)
    assert (found.verdict.outcome, found.warnings) == (Outcome.CURRENT, ())


@pytest.mark.parametrize("content", [b"not a driver", b"MZ" + bytes(200), b"MZ" + b"\xff" * 200])
@pytest.mark.usefixtures("build")
def test_a_boot_driver_that_is_no_program_does_not_start(tmp_path: Path, content: bytes) -> None:
    def change(tree: Path) -> None:
        (tree / "Windows/System32/drivers/vmbus.sys").write_bytes(content)

    verdict = judged(tmp_path, change).verdict
    assert verdict.outcome is Outcome.DISABLED
    assert "vmbus.sys is no Windows program" in verdict.reasons[0]


@pytest.mark.usefixtures("build")
def test_an_older_driver_on_disk_than_was_bound_is_a_warning(tmp_path: Path) -> None:
    def change(tree: Path) -> None:
        program = stub("6.1.7600.1", "amd64", "vmbus.sys")
        (tree / "Windows/System32/drivers/vmbus.sys").write_bytes(program)

    (warning,) = judged(tmp_path, change).warnings
    assert "vmbus.sys is 6.1.7600.1, older than" in warning


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        (f"{VMBUS}\\StartOverride", {"0": "4"}, "StartOverride 0 is no number (REG_SZ)"),
        (VMBUS, {"Type": 16}, "its Type is 16"),
        (VMBUS, {"DeleteFlag": 1}, "marked for deletion"),
        (VMBUS, {"ImagePath": "System32\\ntoskrnl.exe"}, "leads to Windows\\System32\\ntoskrnl"),
    ],
)
@pytest.mark.usefixtures("build")
def test_what_is_odd_about_a_boot_driver_is_a_warning(
    tmp_path: Path, key: str, values: dict[str, str | int], words: str
) -> None:
    found = judged(tmp_path, hives=lambda software, system: system.key(key, dict(values)))
    assert found.verdict.outcome is Outcome.CURRENT
    (warning,) = found.warnings
    assert warning.startswith("vmbus")
    assert words in warning


@pytest.mark.parametrize("state", [None, "112"])
@pytest.mark.usefixtures("build")
def test_a_package_whose_state_is_not_known_is_a_warning(tmp_path: Path, state: str | None) -> None:
    def change(software: RegistryText, system: RegistryText) -> None:
        software.forget(STATE, "CurrentState")
        if state is not None:
            software.key(STATE, {"CurrentState": state})

    (warning,) = judged(tmp_path, hives=change).warnings
    assert f"the state of {PACKAGE} is not known" in warning


@pytest.mark.usefixtures("build")
def test_what_waits_for_the_next_boot_is_a_warning(build: Build) -> None:
    with open_image(build(replace(SPEC, pending=("xml",)))) as image:
        (warning,) = verify(image).warnings
    assert warning == "work is pending: Windows\\WinSxS\\pending.xml is there"


def test_of_a_pending_install_the_last_boot_is_said(build: Build) -> None:
    package = Serviced("6.2", NEW, 0x60, payload=False)
    with open_image(build(replace(guests.SMALL, serviced=(package,), recorded=NEW))) as image:
        verdict = verify(image).verdict
    assert verdict.outcome is Outcome.CURRENT
    assert verdict.reasons[1:] == (
        f"install pending until the next boot: {PACKAGE}",
        "the last boot bound 6.3.9600.16384",
    )


@pytest.mark.parametrize("damage", ["empty", "zeros", "no hive", "base block", "root key"])
@pytest.mark.usefixtures("build")
def test_a_second_windows_that_cannot_be_read_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    hive = tmp_path / "SOFTWARE"
    software_of(SPEC).write(hive, tmp_path, guests.INSTALLED)
    sound = hive.read_bytes()
    contents = {
        "empty": b"",
        "zeros": bytes(8192),
        "no hive": b"a text" * 1000,
        "base block": b"regf" + b"\xff" * 8188,
        "root key": sound[:4128] + bytes(168) + sound[4296:],
    }
    format_ntfs = disks.format_ntfs

    def format_and_fill(volume: Path, size: int, start: int, label: str) -> None:
        format_ntfs(volume, size, start, label)
        if label == "Recovery":
            config = tmp_path / "second/Windows/System32/config"
            config.mkdir(parents=True)
            (config / "SOFTWARE").write_bytes(contents[damage])
            disks.fill(volume, tmp_path / "second", tmp_path)

    monkeypatch.setattr(disks, "format_ntfs", format_and_fill)
    found = judged(tmp_path)
    assert found.verdict.outcome is Outcome.CURRENT
    (warning,) = found.warnings
    assert "SOFTWARE" in warning
    assert "partition 3" in warning or "volume 3" in warning
