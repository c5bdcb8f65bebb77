"""Files that are neither images nor packages are named, as the tools that made them name them."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagetool.disk.container import open_disk
from imagetool.disk.file_kinds import recognise_file
from imagetool.disk.local_files import FileSource
from imagetool.disk.source import MemorySource
from imagetool.errors import NotRecognised, Unsupported
from imagetool.package import open_package
from tests.program import refused, run

Oracle = Callable[[str], str]


def kind_of(path: Path) -> str:
    """The name of a file's kind, which is the same here and where a package is wanted."""
    with FileSource(path) as source:
        found = recognise_file(source)
        assert found is not None, path
        if not found.is_image:
            with pytest.raises(Unsupported, match="and no VHDX, VHD or raw disk") as caught:
                open_disk(source)
            assert f"{path}: this is {found.name}" in caught.value.message
            assert caught.value.hint == found.as_image
    return found.name


def hint_of(*arguments: object) -> str:
    """The command in the hint of a command line that fails."""
    done = run(*arguments)
    assert done.returncode == 3
    hint = done.stderr.splitlines()[1]
    return hint[max(hint.find("qemu-img"), hint.rfind(": ") + 2) :]


@pytest.mark.parametrize(
    ("form", "options", "name"),
    [
        ("qcow2", "", "a QCOW2 disk"),
        ("qcow", "", "a QCOW disk"),
        ("vdi", "", "a VDI disk"),
        ("qed", "", "a QED disk"),
        ("parallels", "", "a disk of Parallels"),
        ("vmdk", "subformat=monolithicSparse", "a VMDK disk"),
        ("vmdk", "subformat=streamOptimized", "a stream-optimised VMDK disk"),
        ("vmdk", "subformat=monolithicFlat", "the descriptor of a VMDK disk, a text file"),
    ],
)
def test_disks_of_others_are_named_and_the_hint_converts_them(
    oracle: Oracle, tmp_path: Path, form: str, options: str, name: str
) -> None:
    disk, raw = tmp_path / "d i s k.img", tmp_path / "raw"
    raw.write_bytes(b"\0" * 510 + b"\x55\xaa" + b"\0" * (1 << 20))
    subprocess.run(
        [oracle("qemu-img"), "convert", "-f", "raw", "-O", form]
        + (["-o", options] if options else [])
        + [str(raw), str(disk)],
        check=True,
    )
    assert kind_of(disk) == name
    command = hint_of("inspect", disk)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path, capture_output=True)
    with FileSource(tmp_path / "d i s k.vhdx") as source:
        assert open_disk(source).read_at(510, 2) == b"\x55\xaa"
    with pytest.raises(NotRecognised, match=f"this is {name}: no cabinet"):
        open_package(disk)


COMPRESSORS = [
    ("gzip", "gzip"),
    ("bzip2", "bzip2"),
    ("xz", "xz"),
    ("zstd", "zstd"),
    ("7z", "a 7z archive"),
    ("zip", "a zip archive"),
    ("tar", "a tar archive, as an OVA is"),
]


@pytest.mark.parametrize(("tool", "name"), COMPRESSORS, ids=[item[0] for item in COMPRESSORS])
def test_what_is_packed_is_named_and_the_hint_unpacks_it(
    oracle: Oracle, tmp_path: Path, tool: str, name: str
) -> None:
    plain = tmp_path / "t.vhdx"
    plain.write_bytes(os.urandom(3000))
    suffix = {"gzip": "gz", "bzip2": "bz2", "zstd": "zst"}.get(tool, tool)
    packed = tmp_path / f"t.vhdx.{suffix}"
    if tool in ("gzip", "bzip2", "xz", "zstd"):
        subprocess.run([oracle(tool), "-q", "-k", plain], check=True)
    elif tool == "7z":
        subprocess.run([oracle("7z"), "a", packed, plain], check=True, stdout=subprocess.DEVNULL)
    elif tool == "zip":
        with zipfile.ZipFile(packed, "w") as archive:
            archive.write(plain, "t.vhdx")
    else:
        subprocess.run([oracle("tar"), "-cf", packed, "-C", tmp_path, "t.vhdx"], check=True)
    expected = plain.read_bytes()
    plain.unlink()
    assert kind_of(packed) == name
    for arguments in (("verify", packed), ("package", "show", packed)):
        command = hint_of(*arguments)
        subprocess.run(command, shell=True, check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)
        assert plain.read_bytes() == expected
        plain.unlink()
        if not packed.exists():  # as gzip does: for the second round
            break


ODD_NAMES = [
    "t.vhdx",
    "T.VHDX",
    'o\'d d "q" $HOME `x`; &.vhdx',
    "-dash.vhdx",
    "@list.img",
    "a:b.iso",
    "back\\slash.vhdx",
    "{file} %s.vhdx",
    "[a].vhdx",
    "bare",
    "...vhdx",
    "\u0444\u0430\u0439\u043b.vhdx",
]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize(
    "tool", ["qemu-img", "gzip", "bzip2", "xz", "zstd", "lz4", "7z", "zip", "tar"]
)
def test_the_command_of_a_hint_works_under_any_name_and_leaves_the_file(
    oracle: Oracle, tmp_path: Path, tool: str, name: str
) -> None:
    """Each file is named as if it were something else, and archives hold one of their own name."""
    folder, original, odd = tmp_path / "folder", tmp_path / name, tmp_path / "folder" / name
    folder.mkdir()
    content = b"\0" * 510 + b"\x55\xaa" + b"\0" * (1 << 20)
    original.write_bytes(content)
    if tool == "qemu-img":
        command = [oracle(tool), "convert", "-f", "raw", "-O", "qcow2", original, odd]
        subprocess.run(command, check=True)
    elif tool == "7z":
        archive = tmp_path / "archive.7z"
        subprocess.run([oracle(tool), "a", archive, original], check=True, capture_output=True)
        archive.rename(odd)
    elif tool == "zip":
        with zipfile.ZipFile(odd, "w", zipfile.ZIP_DEFLATED) as archive_file:
            archive_file.write(original, name)
    elif tool == "tar":
        with tarfile.open(odd, "w") as tar_file:
            tar_file.add(original, name)
    else:
        with odd.open("wb") as packed:
            subprocess.run([oracle(tool), "-c"], input=content, stdout=packed, check=True)
    before = odd.read_bytes()
    done = subprocess.run(
        hint_of("inspect", odd),
        shell=True,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert odd.read_bytes() == before
    (made,) = (path for path in folder.rglob("*") if path.is_file() and path != odd)
    if tool == "qemu-img":
        with FileSource(made) as source:
            assert open_disk(source).read_at(510, 2) == b"\x55\xaa"
    else:
        assert made.read_bytes() == content


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_a_name_that_cannot_be_typed_is_a_placeholder_in_a_hint(tmp_path: Path) -> None:
    for name in ("line\nfeed.vhdx", "\u202egpj.vhdx", os.fsdecode(b"\xff.vhdx")):
        path = tmp_path / name
        path.write_bytes(b"QFI\xfb\0\0\0\3" + b"\0" * 600)
        assert hint_of("inspect", path) == "qemu-img convert -O vhdx FILE FILE.vhdx"


TEXTS = {
    "plain": b"no image\n",
    "utf-8": ("Привет, мир\r\n" * 50).encode(),
    "utf-16": ("Grüße\r\n" * 200).encode("utf-16"),
    "code page": ("Gr\u00fc\u00dfe an alle\r\n" * 50).encode("cp1252"),
    "json": b'{"schema": 1}',
}


def test_texts_are_named_in_any_encoding(tmp_path: Path, unpack: Callable[[str], Path]) -> None:
    for name, data in TEXTS.items():
        path = tmp_path / f"{name}.vhdx"
        path.write_bytes(data)
        assert kind_of(path) == "a text file", name
    ansi = tmp_path / "a.reg"
    ansi.write_bytes(b"REGEDIT4\r\n\r\n[HKEY_LOCAL_MACHINE\\SOFTWARE]\r\n")
    for path in (ansi, unpack("found/export.reg.xz")):
        assert kind_of(path) == "a registry export (.reg), a text file"
        done = run("registry", "list", path, "HKLM\\SYSTEM")
        assert (done.returncode, "name the image, or the hive" in done.stderr) == (3, True)


def test_what_belongs_to_another_command_says_which(
    template: Path, disc: Path, unpack: Callable[[str], Path], tmp_path: Path
) -> None:
    assert kind_of(disc) == "an ISO, a disc"
    for arguments, words in (
        (("verify", disc), "`imagetool package show`"),
        (("package", "show", template), "That is an image"),
        (("verify", template, "--package", template), "That is an image"),
        (("inspect", unpack("found/hive-upcase.xz")), "`imagetool registry list"),
    ):
        done = run(*arguments)
        assert (done.returncode, words in done.stderr) == (3, True), done.stderr
    hive = unpack("found/hive-upcase.xz")
    assert kind_of(hive) == "a registry hive"
    assert kind_of(Path(sys.executable).resolve()) == "a program"


def test_an_msu_of_either_kind_is_named_with_what_it_holds(
    unpack: Callable[[str], Path], oracle: Oracle, tmp_path: Path
) -> None:
    classic, wim = unpack("found/msu-classic.msu.xz"), unpack("found/msu-wim.msu.xz")
    listing = [oracle("7z"), "l", "-ba", "-slt", str(classic)]
    listed = subprocess.run(listing, capture_output=True, text=True, check=True)
    (inner,) = (
        line.removeprefix("Path = ")
        for line in listed.stdout.splitlines()
        if line.startswith("Path = ") and line.endswith(".cab") and "WSUSSCAN" not in line
    )
    for command in ("show", "check"):
        said = refused(3, "package", command, classic)
        assert f"an MSU, the update KB9999999, and no package itself: it holds {inner}" in said
        assert "an MSU, an update in a WIM archive" in refused(3, "package", command, wim)
    assert run("package", "extract", classic, tmp_path / "out").returncode == 0
    assert run("package", "show", tmp_path / "out" / inner).returncode == 0
    assert kind_of(wim) == "an MSU, an update in a WIM archive"


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 70_000,
        b"\xff" * 70_000,
        b"\xeb\x58\x90mkfs.fat" + b"\0" * 499 + b"\x55\xaa" + b"\0" * 512,
        b"LUKS\xba\xbe\0\1" + b"\0" * 4096,
        b"XFSB" + b"\0" * 4096,
        b"\0" * 0x8001 + b"CD001" + b"\0" * 100,
    ],
    ids=range(6),
)
def test_what_may_be_a_raw_disk_stays_one(data: bytes) -> None:
    kind = recognise_file(MemorySource(data, "disk.raw"))
    assert kind is None or kind.is_image or kind.name == "an ISO, a disc"


def test_a_disc_that_boots_from_a_stick_is_a_disk_as_well(oracle: Oracle, tmp_path: Path) -> None:
    boot = b"\0" * 510 + b"\x55\xaa" + b"\0" * (0x8001 - 512) + b"CD001" + b"\0" * 2042
    kind = recognise_file(MemorySource(boot, "hybrid.iso"))
    assert kind is not None
    assert kind.is_image


@given(st.binary(max_size=600) | st.text(max_size=600).map(lambda t: t.encode("utf-16")))
def test_any_bytes_have_a_kind_or_none(data: bytes) -> None:
    kind = recognise_file(MemorySource(data, "{odd} 'name\"\n.{0}"))
    assert kind is None or (kind.name and kind.as_image and kind.as_package)
