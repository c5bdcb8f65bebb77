"""Discs: their sides, against 7-Zip and bsdtar, and what damaged and foreign ones say."""

from __future__ import annotations

import lzma
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures.cabinets import write_cabinet
from fixtures.packages import package_files
from imagetool.disk.source import MemorySource
from imagetool.errors import Corrupt, ImagetoolError, NotRecognised
from imagetool.package import Version, open_media, open_package
from imagetool.package.disc import Disc, is_disc
from tests.program import run

Oracle = Callable[[str], str]
NEW = Version(6, 3, 9600, 19456)
FOUR = [
    "support/amd64/Windows6.2-HyperVIntegrationServices-x64.cab",
    "support/amd64/Windows6.x-HyperVIntegrationServices-x64.cab",
    "support/x86/Windows6.2-HyperVIntegrationServices-x86.cab",
    "support/x86/Windows6.x-HyperVIntegrationServices-x86.cab",
]


def test_the_files_of_a_disc_equal_what_7_zip_extracts(
    disc: Path, oracle: Oracle, tmp_path: Path
) -> None:
    subprocess.run(
        [oracle("7z"), "x", "-y", f"-o{tmp_path}", disc], check=True, capture_output=True
    )
    with open_media(disc) as media:
        assert media.disc is not None
        for file in media.disc.files:
            data = media.disc.open(file).read_at(0, file.size)
            assert data == (tmp_path / file.path).read_bytes()
        assert len(media.disc.files) == 4


_SIDES = {"-J": "Joliet", "-udf": "UDF", "-R": "Rock Ridge", "-l": "ISO 9660"}


@pytest.mark.parametrize(
    "options", [["-J", "-joliet-long"], ["-l"], ["-udf", "-J"], ["-R"], ["-J", "-R"]]
)
def test_discs_of_every_kind_hold_the_same_package(
    oracle: Oracle, tmp_path: Path, options: list[str]
) -> None:
    folder = tmp_path / "tree/SUPPORT/AMD64"
    folder.mkdir(parents=True)
    name = "Windows6.2-HyperVIntegrationServices-x64.cab"
    (folder / name).write_bytes(write_cabinet(package_files("6.2", "amd64")))
    image = tmp_path / "disc.iso"
    level = [] if "-J" in options else ["-iso-level", "4"]
    subprocess.run(
        [oracle("genisoimage"), "-quiet", *options, *level, "-o", image, tmp_path / "tree"],
        check=True,
        capture_output=True,
    )
    with open_package(image) as media:
        assert [package.version for package in media.packages] == [NEW]
        assert media.packages[0].disc_doubts == media.warnings == ()
        assert media.disc is not None
        assert media.disc.side.name == _SIDES[options[0]]


@pytest.mark.parametrize("joliet", [True, False])
def test_a_disc_that_shows_other_files_to_other_systems(
    oracle: Oracle, tmp_path: Path, joliet: bool
) -> None:
    """A file that Joliet hides, and that Rock Ridge shows."""
    name = "Windows6.2-HyperVIntegrationServices-x64.cab"
    for root in ("good", "other"):
        folder = tmp_path / f"{root}/support/amd64"
        folder.mkdir(parents=True)
        (folder / name).write_bytes(write_cabinet(package_files("6.2", "amd64")))
    other = tmp_path / "other/support/amd64" / name
    other.write_bytes(b"MSCF" + bytes(4000))
    hidden = ["-hide-joliet", str(other)] if joliet else []
    image = tmp_path / "disc.iso"
    graft = [f"support/amd64/{name}={tmp_path / 'good/support/amd64' / name}"]
    if joliet:
        graft.append(f"support/amd64/other.cab={other}")
    subprocess.run(
        [oracle("genisoimage"), "-quiet", "-J", "-joliet-long", "-R", "-graft-points"]
        + [*hidden, "-o", str(image), *graft],
        check=True,
        capture_output=True,
    )
    with open_package(image) as media:
        doubts = media.packages[0].disc_doubts
    assert ["other systems" in doubt for doubt in doubts] == [True] * joliet


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("udf102", NotRecognised),
        ("bad-dir", Corrupt),
        ("malformed", Corrupt),
        ("joliet", NotRecognised),
        ("test-udf1", NotRecognised),
    ],
)
def test_foreign_discs_without_packages_or_damaged(
    testdata: Path, tmp_path: Path, name: str, error: type[ImagetoolError]
) -> None:
    path = tmp_path / f"{name}.iso"
    path.write_bytes(lzma.decompress((testdata / f"iso/{name}.iso.xz").read_bytes()))
    with pytest.raises(error) as caught:
        open_package(path)
    assert caught.value.exit_code == 3
    assert caught.value.hint


def test_the_files_of_foreign_discs_equal_what_7_zip_extracts(
    testdata: Path, oracle: Oracle, tmp_path: Path
) -> None:
    for name in ("joliet", "test-udf1"):
        path = tmp_path / f"{name}.iso"
        path.write_bytes(lzma.decompress((testdata / f"iso/{name}.iso.xz").read_bytes()))
        out = tmp_path / name
        subprocess.run([oracle("7z"), "x", "-y", f"-o{out}", path], check=True, capture_output=True)
        theirs = {f.read_bytes() for f in out.rglob("*") if f.is_file()}
        with open_media(path) as media:
            assert media.disc is not None
            ours = {media.disc.open(f).read_at(0, f.size) for f in media.disc.files}
        assert ours <= theirs | {b""}
        assert ours


def _found(testdata: Path, folder: Path, name: str) -> Path:
    path = folder / f"{name}.iso"
    path.write_bytes(lzma.decompress((testdata / f"found/iso-{name}.iso.xz").read_bytes()))
    return path


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("rr", "Rock Ridge"),
        ("win_udfdata", "UDF"),
        ("udf_fsd261", "Joliet"),
        ("udf_noanchor256", "UDF"),
        ("elt_odd", "Joliet"),
    ],
)
def test_a_flaw_of_one_side_does_not_refuse_another(
    testdata: Path, oracle: Oracle, tmp_path: Path, name: str, side: str
) -> None:
    path = _found(testdata, tmp_path, name)
    out = tmp_path / "out"
    # 7-Zip warns of some of these discs, and its exit code says so.
    subprocess.run([oracle("7z"), "x", "-y", f"-o{out}", path], check=False, capture_output=True)
    with open_package(path) as media:
        assert sorted(package.name for package in media.packages) == FOUR
        assert media.disc is not None
        assert media.disc.side.name == side
        assert ("UDF side" in "".join(media.warnings)) == (name == "udf_fsd261")
        for file in media.disc.files:
            assert media.disc.open(file).read_at(0, file.size) == (out / file.path).read_bytes()


def test_a_file_of_several_extents_is_whole(testdata: Path, oracle: Oracle, tmp_path: Path) -> None:
    path = _found(testdata, tmp_path, "multi-extent")
    theirs = subprocess.run(
        [oracle("bsdtar"), "-xOf", path, "file"], check=True, capture_output=True
    ).stdout
    with open_media(path) as media:
        assert media.disc is not None
        (file,) = media.disc.files
        assert (file.path, file.size) == ("file", 262_280)
        assert media.disc.open(file).read_at(0, file.size) == theirs


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Deep directories, long and foreign names, links, and empty files."""
    root = tmp_path_factory.mktemp("tree") / "root"
    deep = root.joinpath(*(f"level {number}" for number in range(12)))
    deep.mkdir(parents=True)
    (deep / "deepest").write_bytes(b"deep" * 3000)
    (root / ("long name " * 20).strip()).write_bytes(b"long")
    (root / "ünïcödé 文字").write_bytes(b"foreign")
    (root / "empty").write_bytes(b"")
    (root / "many").mkdir()
    for number in range(400):
        (root / f"many/file {number}").write_bytes(f"{number}".encode() * number)
    (root / "to a file").symlink_to("many/file 7")
    (root / "up and out").symlink_to("/" + "../far/" * 9 + "a long way " * 8 + "end")
    return root


@pytest.mark.parametrize("maker", ["genisoimage", "xorriso"])
def test_names_links_and_bytes_of_rock_ridge_are_those_of_the_tree(
    oracle: Oracle, tmp_path: Path, tree: Path, maker: str
) -> None:
    image = tmp_path / "disc.iso"
    command = [oracle(maker), *(["-as", "mkisofs"] if maker == "xorriso" else []), "-quiet", "-R"]
    subprocess.run([*command, "-o", image, tree], check=True, capture_output=True)
    with open_media(image) as media:
        assert media.disc is not None
        assert media.disc.side.name == "Rock Ridge"
        ours = {
            file.path: file.target
            if file.target is not None
            else media.disc.open(file).read_at(0, file.size)
            for file in media.disc.files
        }
    theirs = {
        path.relative_to(tree).as_posix(): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        for path in tree.rglob("*")
        if path.is_symlink() or path.is_file()
    }
    assert ours == theirs


def test_links_are_listed_with_their_targets_and_not_written(
    oracle: Oracle, tmp_path: Path, tree: Path
) -> None:
    image, out = tmp_path / "disc.iso", tmp_path / "out"
    subprocess.run(
        [oracle("genisoimage"), "-quiet", "-R", "-o", image, tree], check=True, capture_output=True
    )
    done = run("package", "list", image)
    assert "to a file -> many/file 7" in done.stdout
    done = run("package", "extract", image, out)
    assert done.returncode == 0
    assert "to a file is a link to many/file 7: not written" in done.stderr
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == {
        path.relative_to(tree).as_posix()
        for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_a_side_that_cannot_be_read_leaves_a_package_unsigned(
    testdata: Path, tmp_path: Path
) -> None:
    path = _found(testdata, tmp_path, "udf_fsd261")
    done = run("package", "check", path)
    assert done.returncode == 1
    assert done.stdout.count("disc        unsigned: the UDF side of the disc is not read") == 4


@pytest.mark.parametrize("options", [["-udf"], ["-J", "-joliet-long", "-U"]])
def test_udf_and_joliet_hold_what_7_zip_lists(
    oracle: Oracle, tmp_path: Path, tree: Path, options: list[str]
) -> None:
    image, out = tmp_path / "disc.iso", tmp_path / "out"
    subprocess.run(
        [oracle("genisoimage"), "-quiet", "-D", *options, "-o", image, tree],
        check=True,
        capture_output=True,
    )
    subprocess.run([oracle("7z"), "x", "-y", f"-o{out}", image], check=True, capture_output=True)
    theirs = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with open_media(image) as media:
        assert media.disc is not None
        assert media.disc.side.name == ("UDF" if "-udf" in options else "Joliet")
        ours = {f.path: media.disc.open(f).read_at(0, f.size) for f in media.disc.files}
    assert len(ours) > 400
    assert ours == theirs


def test_packages_are_found_by_content_wherever_they_lie(oracle: Oracle, tmp_path: Path) -> None:
    folder = tmp_path / "tree/any folder"
    folder.mkdir(parents=True)
    (folder / "a package.bin").write_bytes(write_cabinet(package_files("6.2", "amd64")))
    (folder / "not one.cab").write_bytes(b"no cabinet")
    (folder / "broken.cab").write_bytes(b"MSCF" + bytes(4000))
    image = tmp_path / "disc.iso"
    subprocess.run(
        [oracle("genisoimage"), "-quiet", "-J", "-o", image, tmp_path / "tree"],
        check=True,
        capture_output=True,
    )
    with open_package(image) as media:
        assert [package.name for package in media.packages] == ["any folder/a package.bin"]
        (warning,) = media.warnings
        assert "broken.cab" in warning
        assert media.packages[0].disc_doubts == media.warnings


def test_a_damaged_package_hides_no_other_of_its_disc(oracle: Oracle, tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    cabinet = bytearray(write_cabinet(package_files("6.2", "amd64")))
    (folder / "second.cab").write_bytes(cabinet)
    (data,) = struct.unpack_from("<I", cabinet, 36)  # of the first folder
    cabinet[data + 100] ^= 1
    (folder / "first.cab").write_bytes(cabinet)
    image = tmp_path / "disc.iso"
    subprocess.run(
        [oracle("genisoimage"), "-quiet", "-J", "-o", image, folder],
        check=True,
        capture_output=True,
    )
    done = run("package", "check", image)
    assert done.returncode == 3
    assert "first.cab: unreadable\n  content  unreadable: first.cab: folder 0: block" in done.stdout
    assert "second.cab: unsigned\n" in done.stdout
    (suite,) = ElementTree.fromstring(run("package", "check", image, "--format", "junit").stdout)
    assert (suite.get("failures"), suite.get("errors")) == ("1", "1")


def test_a_tree_whose_files_another_side_has_alone_is_told(oracle: Oracle, tmp_path: Path) -> None:
    for name in ("seen", "hidden"):
        (tmp_path / name).write_bytes(name.encode())
    image = tmp_path / "disc.iso"
    subprocess.run(
        [oracle("genisoimage"), "-quiet", "-J", "-R", "-hide-joliet", "hidden", "-o", image]
        + [tmp_path / "seen", tmp_path / "hidden"],
        check=True,
        capture_output=True,
    )
    with open_media(image) as media:
        assert media.disc is not None
        assert [file.path for file in media.disc.files] == ["seen"]
        assert media.warnings == ("the Rock Ridge side of the disc alone has hidden (6 bytes)",)


@pytest.fixture(scope="module")
def bridge(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small disc with every side."""
    image = tmp_path_factory.mktemp("bridge") / "disc.iso"
    files = [tree / "empty", tree / "to a file", tree / "level 0"]
    command = ["genisoimage", "-quiet", "-udf", "-J", "-R", "-D", "-o", str(image)]
    subprocess.run([*command, *map(str, files)], check=True, capture_output=True)
    return image


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 2048 * 300), st.binary(min_size=1, max_size=8)), max_size=6),
    st.integers(0, 2048 * 300),
)
def test_a_changed_disc_is_read_or_refused_in_our_words(
    bridge: Path, changes: list[tuple[int, bytes]], cut: int
) -> None:
    data = bytearray(bridge.read_bytes())
    for offset, change in changes:
        start = 2048 * 16 + offset % (len(data) - 2048 * 16 - 8)
        data[start : start + len(change)] = change
    source = MemorySource(bytes(data[: len(data) - cut % len(data)]), "disc")
    if not is_disc(source):
        return
    try:
        disc = Disc(source)
    except ImagetoolError as error:
        assert error.exit_code == 3
        return
    for file in disc.files:
        try:
            disc.open(file).read_at(0, min(file.size, 1 << 20))
        except ImagetoolError as error:
            assert error.exit_code == 3
