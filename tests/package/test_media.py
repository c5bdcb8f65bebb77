"""Discs, manifests and packages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.cabinets import write_cabinet
from fixtures.packages import package_files, put_into_disc
from imagetool.budget import Budget
from imagetool.disk.safe_names import safe_name, safe_path
from imagetool.errors import (
    CannotOpen,
    CannotWrite,
    Corrupt,
    NotRecognised,
)
from imagetool.package import Version, open_package
from imagetool.package.cbs import parse_component_manifest, parse_package_manifest

Oracle = Callable[[str], str]
NEW = Version(6, 3, 9600, 19456)


def test_the_four_packages_of_a_disc(disc: Path) -> None:
    with open_package(disc) as media:
        assert media.kind == "disc"
        found = [(p.name, p.identity.name, p.architecture, p.version) for p in media.packages]
        name = "Microsoft-Hyper-V-Integration-Services-Package"
        assert found == [
            (
                "support/amd64/Windows6.2-HyperVIntegrationServices-x64.cab",
                f"{name}-2",
                "amd64",
                NEW,
            ),
            ("support/amd64/Windows6.x-HyperVIntegrationServices-x64.cab", name, "amd64", NEW),
            ("support/x86/Windows6.2-HyperVIntegrationServices-x86.cab", f"{name}-2", "x86", NEW),
            ("support/x86/Windows6.x-HyperVIntegrationServices-x86.cab", name, "x86", NEW),
        ]
        first = media.packages[0]
        assert len(first.manifest.drivers) == 16
        assert first.manifest.identifier == "KB4072650"
        services = [s.name for c in first.components() for s in c.manifest.services]
        assert "vmickvpexchange" in services


def test_a_folder_with_update_mum_is_a_package(tmp_path: Path) -> None:
    for name, data in package_files("6.2", "amd64").items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with open_package(tmp_path) as media:
        assert media.kind == "folder"
        assert media.packages[0].version == NEW
        assert len(media.packages[0].components()) == 18


def test_the_real_packages_say_who_they_are(real_packages: Path) -> None:
    for family, suffix, drivers in (("6.2", "-2", 16), ("6.x", "", 15)):
        path = real_packages / f"windows{family}-hypervintegrationservices-x64.cab"
        with open_package(path) as media:
            package = media.packages[0]
            name = f"Microsoft-Hyper-V-Integration-Services-Package{suffix}"
            assert str(package.identity) == f"{name}~31bf3856ad364e35~amd64~~6.3.9600.18692"
            assert len(package.manifest.drivers) == drivers
            parents = {(p.name, str(p.version)) for p in package.parents}
            if family == "6.2":
                guest = "Microsoft-Hyper-V-Guest-Integration-Drivers-Package"
                assert {(guest, "6.2.9200.16384"), (guest, "6.3.0.0")} <= parents
            else:
                assert ("Microsoft-Windows-Foundation-Package", "6.1.7600.16385") in parents
            for component in package.components():
                for file in component.manifest.files:
                    import hashlib

                    data = package.read(f"{component.directory}/{file.name}")
                    assert hashlib.sha256(data).hexdigest() == file.sha256


def test_what_is_no_package_is_said_to_be_none(tmp_path: Path) -> None:
    text = tmp_path / "text.cab"
    text.write_text("no cabinet", encoding="utf-8")
    plain = tmp_path / "plain.cab"
    plain.write_bytes(write_cabinet({"readme.txt": b"hello"}))
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, error, words in (
        (text, NotRecognised, "no cabinet, no disc"),
        (plain, NotRecognised, "no CBS package"),
        (empty, NotRecognised, "holds no update.mum"),
        (tmp_path / "none", CannotOpen, "no such file"),
    ):
        with pytest.raises(error, match=words):
            open_package(path)


BOMB = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;">]>
<assembly><assemblyIdentity name="&c;" version="1.2.3.4"/></assembly>"""


@pytest.mark.parametrize(
    "data", [BOMB, b"<assembly", b"", b"<other/>", b"<assembly/>", b"\xff\xfe\0\0", b"\0" * 100]
)
def test_manifests_that_are_no_sound_xml_are_refused(data: bytes) -> None:
    for parse in (parse_package_manifest, parse_component_manifest):
        with pytest.raises(Corrupt, match="made-up"):
            parse(data, "made-up", Budget())


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "",
        "a/b",
        "a\\b",
        "C:",
        "a:b",
        "nul",
        "NUL.txt",
        "com1",
        "a.",
        "a ",
        "x" * 300,
        "\n",
    ],
)
def test_names_that_could_escape_are_refused(name: str) -> None:
    with pytest.raises(CannotWrite):
        safe_name(name)


def test_paths_stay_below_their_folder(tmp_path: Path) -> None:
    assert safe_path(tmp_path, "a/b\\c.txt") == tmp_path / "a/b/c.txt"
    for name in ("../x", "/x", "a/../../x", "a//x", "C:/x"):
        with pytest.raises(CannotWrite):
            safe_path(tmp_path, name)
    (tmp_path / "link").symlink_to("/")
    with pytest.raises(CannotWrite, match="in the way"):
        safe_path(tmp_path, "link/x")


def test_a_cabinet_is_put_into_a_disc(tmp_path: Path) -> None:
    cabinet = tmp_path / "windows6.2-hypervintegrationservices-x64.cab"
    cabinet.write_bytes(write_cabinet(package_files("6.2", "amd64")))
    put_into_disc([cabinet], tmp_path / "disc.iso")
    with open_package(tmp_path / "disc.iso") as media:
        assert media.packages[0].read_cabinet() == cabinet.read_bytes()
