"""Images by patterns and directories: here, and on a host through PowerShell, with one result."""

from __future__ import annotations

import glob
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imagetool
from imagetool.contracts import Files, FolderEntry
from imagetool.disk.files import IMAGE_SUFFIXES, is_pattern
from imagetool.disk.find import find_images
from imagetool.disk.local_files import LOCAL_FILES
from imagetool.errors import CannotOpen, ImagetoolError, WrongUsage
from imagetool.host.reading import HostFiles, paths
from imagetool.lab.emulated_host import EmulatedHost
from imagetool.lab.session import open_lab

SEPARATOR = "\\"
TREE = (
    *("a.vhdx", "B.VHDX", "c.vhd", "d.Raw", "notes.txt", ".hidden.vhdx", "[x].vhdx", "x.vhdx"),
    *("sub/e.vhdx", "sub/deep/f.AVHDX", "sub/deep/g.img", "sub/.dot/h.vhdx", "other/i.qcow2"),
    *("other/readme", "empty/", "ünï 日本/j.vhdx"),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for name in TREE:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


@pytest.fixture(scope="module", params=["here", "powershell", "python"])
def files(request: pytest.FixtureRequest) -> Iterator[Files]:
    """The files of this machine, and the same through each engine of the emulated host."""
    if request.param == "here":
        yield LOCAL_FILES
        return
    if request.param == "powershell":
        request.getfixturevalue("engine")
        session = open_lab()
    else:
        session = open_lab(EmulatedHost(), engine="python")
    with session:
        yield HostFiles(session)


Names = Callable[..., list[str]]


@pytest.fixture
def names(files: Files, tree: Path) -> Names:
    """The paths that something under the tree finds, relative to it."""

    def find(text: str, *, recursive: bool = False) -> list[str]:
        found = find_images(f"{tree}/{text}" if text else str(tree), files, recursive=recursive)
        assert not found.errors
        return [path.removeprefix(f"{tree}/") for path in found.paths]

    return find


def test_two_stars_are_any_depth(names: Names) -> None:
    every = [name for name in TREE if name.lower().endswith("vhdx")]
    assert names("**/*.*vhdx") == sorted(every)
    assert names("**/*.vhdx") == sorted(set(every) - {"sub/deep/f.AVHDX"})
    assert names("sub/**") == sorted(name for name in TREE if name.startswith("sub/"))
    assert names("**/deep/*") == ["sub/deep/f.AVHDX", "sub/deep/g.img"]
    assert names("**/deep/**/*.img") == ["sub/deep/g.img"]
    assert names("s*/**/e.vhdx") == ["sub/e.vhdx"]


def test_a_directory_is_the_images_in_it_and_below(names: Names) -> None:
    images = [name for name in TREE if name not in ("notes.txt", "other/readme", "empty/")]
    assert names("") == sorted(name for name in images if "/" not in name)
    assert names("", recursive=True) == sorted(images)
    assert names("sub/") == ["sub/e.vhdx"]


def test_a_suffix_counts_in_any_case_and_a_stem_does_not(names: Names) -> None:
    if os.name == "nt":
        pytest.skip("there a name counts in any case")
    assert names("*.VHDX") == sorted(["a.vhdx", "B.VHDX", ".hidden.vhdx", "[x].vhdx", "x.vhdx"])
    with pytest.raises(CannotOpen, match="no file fits this pattern"):
        names("b*.vhdx")
    assert names("[ab].vhd?") == ["a.vhdx"]


def test_a_name_of_the_patterns_own_text_fits_too_and_hides_nothing(names: Names) -> None:
    assert names("[x].vhdx") == ["[x].vhdx", "x.vhdx"]
    assert names("[ax].vhdx") == ["a.vhdx", "x.vhdx"]
    assert names("none") == ["none"]


def test_what_fits_nothing_is_an_error(names: Names) -> None:
    for text in ("none*", "none/*.vhdx", "**/none", "empty/*", "a.vhdx/*"):
        with pytest.raises(CannotOpen, match="no file fits this pattern"):
            names(text)
    with pytest.raises(CannotOpen, match="no image lies in this directory"):
        names("empty")


def test_links_are_followed_once(files: Files, tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/x.vhdx").touch()
    (tmp_path / "a/b/up").symlink_to("..")
    (tmp_path / "a/b/root").symlink_to(tmp_path)
    (tmp_path / "a/self").symlink_to("self")
    (tmp_path / "elsewhere").symlink_to("a/b")
    found = find_images(f"{tmp_path}/**/*.vhdx", files).paths
    assert {os.path.realpath(path) for path in found} == {str(tmp_path / "a/b/x.vhdx")}
    assert len(found) == 1
    linked = find_images(f"{tmp_path}/elsewhere/*.vhdx", files).paths
    assert linked == (f"{tmp_path}/elsewhere/x.vhdx",)


class Walled:
    """Files of which one directory may not be listed."""

    on_windows = False

    def __getattr__(self, name: str) -> object:
        return getattr(LOCAL_FILES, name)

    def list_folders(self, paths: Sequence[str]) -> list[tuple[FolderEntry, ...] | ImagetoolError]:
        return [
            CannotOpen(f"{path}: denied") if path.endswith("/sub") else found
            for path, found in zip(paths, LOCAL_FILES.list_folders(paths), strict=True)
        ]


def test_a_directory_that_cannot_be_listed_is_said(tree: Path) -> None:
    files: Files = Walled()  # type: ignore[assignment]
    for text, recursive in ((f"{tree}/**/*.vhdx", False), (str(tree), True)):
        found = find_images(text, files, recursive=recursive)
        assert list(found.errors) == [f"{tree}/sub"]
        assert f"{tree}/ünï 日本/j.vhdx" in found.paths


def test_patterns_of_windows_are_read_by_its_rules() -> None:
    class Windows:
        on_windows = True
        tree: ClassVar = {
            "D:\\": ("dImages", "fpagefile.sys"),
            "D:\\Images": ("fA.vhdx", "fb.VHDX", "dOld"),
            "D:\\Images\\Old": ("fc.vhdx",),
            "\\\\fs\\share\\": ("fd.vhdx",),
            "\\\\?\\D:\\": ("fe.vhdx",),
        }

        def list_folders(
            self, names: Sequence[str]
        ) -> list[tuple[FolderEntry, ...] | ImagetoolError]:
            return [
                tuple(
                    FolderEntry(item[1:], item[0] == "d")
                    for item in self.tree[path.replace("/", SEPARATOR)]
                )
                for path in names
            ]

        def join(self, folder: str, name: str) -> str:
            return paths.join(folder, name, True)

        def canonical(self, path: str) -> str:
            return paths.canonical(path, True)

    files: Files = Windows()  # type: ignore[assignment]
    for text in ("D:/Imag?s/A.*", "D:\\i*\\A*", "D:\\*\\a.VH*"):
        assert find_images(text, files).paths == (f"{text[:3]}Images\\A.vhdx",), text
    everything = ("D:\\Images\\A.vhdx", "D:\\Images\\Old\\c.vhdx", "D:\\Images\\b.VHDX")
    assert find_images("D:\\**\\*.vhdx", files).paths == everything
    assert find_images("\\\\fs\\share\\*.vhdx", files).paths == ("\\\\fs\\share\\d.vhdx",)
    assert find_images("\\\\?\\D:\\*.vhdx", files).paths == ("\\\\?\\D:\\e.vhdx",)
    assert find_images("\\\\?\\D:\\x.vhdx", files).paths == ("\\\\?\\D:\\x.vhdx",)
    with pytest.raises(WrongUsage, match="in the name of a server or share"):
        find_images("\\\\f*\\share\\x.vhdx", files)


def test_a_shell_finds_the_same(tree: Path) -> None:
    for pattern in ("*.vhdx", "**/*.vhdx", "s*/*", "**/deep/*", "?.vhd*", "**/[ef].*"):
        script = f'shopt -s globstar dotglob; for f in {pattern}; do [ -d "$f" ] || echo "$f"; done'
        listed = subprocess.run(
            ["bash", "-c", script], cwd=tree, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        assert listed
        ours = find_images(f"{tree}/{pattern}", LOCAL_FILES).paths
        found = {path.removeprefix(f"{tree}/") for path in ours}
        assert set(listed) <= found
        assert all(name.lower().endswith(("hdx", ".img")) for name in found - set(listed)), pattern


def test_a_directory_that_a_pattern_fits_is_the_images_in_it(names: Names) -> None:
    assert names("su*") == names("su*/") == names("sub") == ["sub/e.vhdx"]
    assert names("su*", recursive=True) == names("sub", recursive=True)
    assert set(names("*")) >= {"a.vhdx", "notes.txt", "sub/e.vhdx", "other/i.qcow2"}
    assert set(names("*/")) == {"sub/e.vhdx", "other/i.qcow2", "ünï 日本/j.vhdx"}
    with pytest.raises(CannotOpen, match="no file fits"):
        names("a.vhd?/")


def test_two_stars_within_a_name_are_refused(names: Names) -> None:
    for text in ("**.vhdx", "sub/**x/e.vhdx", "a**"):
        with pytest.raises(WrongUsage, match="within a name"):
            names(text)


ODD_NAMES = (
    "a.vhdx",
    "b.vhdx",
    "*.vhdx",
    "*",
    "q[1]",
    "[ab].vhdx",
    "sub",
    "x.vhdx",
    "?",
    ".h.vhdx",
)


@given(
    paths=st.sets(
        st.lists(st.sampled_from(ODD_NAMES), min_size=1, max_size=3).map(tuple), max_size=8
    ),
    pattern=st.lists(
        st.sampled_from((*ODD_NAMES, "**", "*.vhd?", "[a-x].*")), min_size=1, max_size=3
    ),
    slash=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_no_less_is_found_than_by_a_shell(
    paths: set[tuple[str, ...]], pattern: list[str], slash: bool
) -> None:
    """A directory that the shell hands over is the images in it, as when it is named."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for parts in sorted(paths, key=len, reverse=True):
            path = root.joinpath(*parts)
            with suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        text = f"{root}/{'/'.join(pattern)}{'/' if slash else ''}"
        if not is_pattern(text):
            return
        handed = glob.glob(text, recursive=True, include_hidden=True)  # noqa: PTH207  # for texts, as a shell
        wanted: set[Path] = set()
        for item in handed:
            path = Path(item)
            if item.endswith("/") and not path.is_dir():
                continue  # Python's glob takes FILE/** for the file, a shell does not
            if path.is_dir() and path != root:
                wanted.update(
                    below
                    for below in path.iterdir()
                    if below.is_file() and below.name.lower().endswith(IMAGE_SUFFIXES)
                )
            elif path.is_file():
                wanted.add(path)
        try:
            found = {Path(item) for item in find_images(text, LOCAL_FILES).paths}
        except CannotOpen:
            found = set()
        assert wanted <= found


def test_the_library_finds_as_the_command_line_does(tree: Path) -> None:
    assert imagetool.find(f"{tree}/**/*.img", tree / "sub") == (
        f"{tree}/sub/deep/g.img",
        f"{tree}/sub/e.vhdx",
    )
    assert len(imagetool.find(tree, recursive=True)) == 13
    with pytest.raises(WrongUsage):
        imagetool.find()
    with pytest.raises(CannotOpen):
        imagetool.find(tree / "empty")
