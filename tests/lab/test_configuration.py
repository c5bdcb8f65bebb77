"""lab.toml: what it may say, and how a mistake in it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagetool.errors import WrongUsage
from imagetool.lab.configuration import (
    DirectoryOptions,
    HostOptions,
    LabConfiguration,
    MachineOptions,
    read_lab_configuration,
)
from imagetool.lab.effects import effects
from tests.program import refused, run

WHOLE = r"""
[host]
generation = "2012r2"
hyper_v = false
files_late = 1
disks_late = 2

[[directories]]
path = "/srv/images"
name = 'D:\images'
kind = "refs"
attributes = ["compressed", "sparse"]

[[machines]]
name = "web01"
state = "Paused"
disks = ["/srv/images/a.vhdx"]
"""


def test_the_whole_file_is_read(tmp_path: Path) -> None:
    assert read_lab_configuration(tmp_path) == LabConfiguration()
    (tmp_path / "lab.toml").write_text(WHOLE)
    found = read_lab_configuration(tmp_path)
    assert found == LabConfiguration(
        HostOptions(generation="2012r2", hyper_v=False, files_late=1.0, disks_late=2),
        (DirectoryOptions("/srv/images", "D:\\images", "refs", ("compressed", "sparse")),),
        (MachineOptions("web01", "Paused", ("/srv/images/a.vhdx",)),),
    )
    assert found.directory_of(Path("/srv/images/below/x.vhdx")) == found.directories[0]
    assert found.directory_of(Path("/srv/images2")) is None
    assert found.holder_of(Path("/srv/images/a.vhdx")) == found.machines[0]
    assert found.generation is not None
    assert found.generation.has_vmguest_iso


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[host", "this is no TOML"),
        ("\0", "this is no TOML"),
        ("[hosts]", "a key 'hosts' that means nothing"),
        ("[host]\ngeneration = '2008'", "host.generation is '2008'"),
        ("[host]\nhyper_v = 1", "host.hyper_v is not of the type bool"),
        ("[host]\ndisks_late = true", "host.disks_late is not of the type int"),
        ("[host]\ndisks_late = -1", "host.disks_late is out of range"),
        ("[host]\nfiles_late = nan", "host.files_late is out of range"),
        ("[host]\nfiles_late = 1e9", "host.files_late is out of range"),
        ("[host]\nlate = 1", "host has a key 'late' that means nothing"),
        ("[host]\nsan_policy = 'none'", "host.san_policy is 'none'"),
        ("host = 1", "host is no table"),
        ("[directories]", "directories is no list of tables"),
        ("[[directories]]\nname = 'D:\\x'", "a table of directories has no path"),
        ("[[directories]]\npath = 'here'", "no whole path of this machine"),
        ("[[directories]]\npath = '/x'\nkind = 'zfs'", "directories.kind is 'zfs'"),
        ("[[directories]]\npath = '/x'\nattributes = 'sparse'", "is no list of texts"),
        ("[[directories]]\npath = '/x'\nattributes = ['old']", "directories.attributes is 'old'"),
        ("[[machines]]\nname = 'x'\nstate = 'on'", "machines.state is 'on'"),
        ("[[machines]]\nname = 'x'\ndisks = ['a.vhdx']", "no whole path of this machine"),
    ],
    ids=range(20),
)
def test_a_mistake_is_told_with_its_key(
    lab_directory: Path, template: Path, text: str, words: str
) -> None:
    lab_directory.mkdir(mode=0o700)
    (lab_directory / "lab.toml").write_text(text)
    with pytest.raises(WrongUsage, match=r"lab\.toml") as caught:
        read_lab_configuration(lab_directory)
    assert words in caught.value.message
    assert caught.value.hint


def test_the_program_tells_a_mistake(lab_directory: Path, template: Path) -> None:
    lab_directory.mkdir(mode=0o700)
    (lab_directory / "lab.toml").write_text("[host]\nlate = 1")
    assert "a key 'late' that means nothing" in refused(2, "verify", f"lab:{template}")


def test_a_host_shows_the_release_that_it_is_to_be(
    lab_directory: Path, lab_engine: str, tmp_path: Path
) -> None:
    lab_directory.mkdir(mode=0o700)
    text = "[host]\ngeneration = '2012r2'\nhyper_v = false\n"
    if lab_engine == "powershell":
        text += f"[[directories]]\npath = '{tmp_path}'\nname = 'D:\\images'\n"
    (lab_directory / "lab.toml").write_text(text)
    said = run("host", "check", "lab").stdout
    if lab_engine == "powershell":
        assert "Windows PowerShell 5.1.14409.1005, Desktop" in said
        assert "Windows Server 2012 R2" in said
        assert "6.3.9600.17031" in said
    assert "the module Hyper-V is not there" in said
    assert "in System32" in said


def test_every_effect_says_how_it_is_known() -> None:
    listed = run("lab", "status", "--effects").stdout
    for item in effects():
        assert f"  {item.what}\n" in listed
        assert f"    {'a guess' if item.is_guess else f'confirmed by {item.known}'}\n" in listed
    assert {item.cmdlet for item in effects()} >= {"Mount-VHD", "Add-WindowsPackage", "New-VHD"}
    assert any(item.is_guess for item in effects())
