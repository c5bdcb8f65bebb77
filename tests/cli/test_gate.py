"""A gate that is not green by accident: coverage, self-comparison, rehearsal, warnings, reports."""

from __future__ import annotations

import json
import lzma
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.program import command_line, run

OLD = "6.3.9600.16384"
NEW = "6.3.9600.19456"


def document(*arguments: object) -> dict[str, object]:
    """The document of `verify` on these arguments."""
    done = run("verify", *arguments, "--format", "json")
    return dict(json.loads(done.stdout))


@pytest.fixture
def tree(template: Path, tmp_path: Path) -> Path:
    """Four images at three depths, one of them no image."""
    for name in ("tree/a.vhdx", "tree/x/B.VHDX", "tree/x/y/c.vhdx", "tree/x/y/bad.vhdx"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(template)
    (tmp_path / "tree/x/y/bad.vhdx").unlink()
    (tmp_path / "tree/x/y/bad.vhdx").write_text("no image")
    return tmp_path / "tree"


def test_every_image_below_is_judged_and_counted(tree: Path, tmp_path: Path) -> None:
    last = "3 judged: 3 hold, 0 fail; 1 could not be read"
    names = tmp_path / "names.txt"
    names.write_bytes(b"\xef\xbb\xbf" + f"{tree}/*.vhdx\r\n\r\n{tree}/x/**\n".encode())
    for arguments in ((f"{tree}/**/*.vhdx",), (tree, "--recursive"), ("--from", names)):
        done = run("verify", *arguments, "--at-least", OLD)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (3, last), arguments
    summary = {"judged": 3, "hold": 3, "fail": 0, "unreadable": 1}
    assert document(tree, "--recursive")["summary"] == summary
    assert run("verify", tree).returncode == 0
    for nothing in (f"{tree}/none*", tmp_path / "names.txt.d"):
        assert run("verify", tree / "a.vhdx", nothing).returncode == 3
    assert run("verify").returncode == 2


def test_every_list_counts_and_an_empty_one_is_said(tree: Path, tmp_path: Path) -> None:
    one, other, none = (tmp_path / name for name in ("one", "other", "none"))
    one.write_text(f"{tree}/a.vhdx\n", encoding="utf-8")
    other.write_text(f"{tree}/x/y/bad.vhdx\n", encoding="utf-8")
    none.write_text("\n", encoding="utf-8")
    summary = document("--from", one, "--from", other)["summary"]
    assert summary == {"judged": 1, "hold": 1, "fail": 0, "unreadable": 1}
    assert run("verify", tree / "a.vhdx", "--from", none).returncode == 2


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--at-least", (NEW, OLD)),
        ("--require", ("confirmed", "installed")),
        ("--volume", ("9", "1")),
        ("--format", ("json", "junit")),
        ("--output", ("a", "b")),
    ],
)
def test_an_option_with_one_value_is_not_given_twice(
    template: Path, tmp_path: Path, option: str, values: tuple[str, str]
) -> None:
    first, last = ((tmp_path / item if option == "--output" else item) for item in values)
    done = run("verify", template, option, first, option, last)
    assert done.returncode == 2
    assert f"'{option}': it takes one value, and is given 2 times" in done.stderr
    for arguments in (("disk", "map"), ("registry", "list"), ("package", "check"), ("inject",)):
        done = run(*arguments, template, "--format", "text", "--format", "json")
        assert done.returncode == 2
        assert "is given 2 times" in done.stderr


def test_a_service_that_nobody_looked_for_is_said(template: Path) -> None:
    said = "the service kvp was not asked for"
    for output_format in ("text", "json", "junit"):
        done = run("verify", template, "--service", "kvp", "--format", output_format)
        assert (done.returncode, said in done.stdout) == (0, True)
    assert run("verify", template, "--service", "kvp", "--strict").returncode == 1


def test_an_image_that_was_compared_with_itself_says_so(template: Path, disc: Path) -> None:
    said = "no version was asked for: compared with itself"
    assert said in run("verify", template).stdout
    assert said in run("verify", template, template.parent / "template.vhdx", "none").stdout
    assert "compared with itself" in run("verify", template, "--format", "junit").stdout
    for arguments, origin in (
        ((), "present"),
        (("--at-least", OLD), "at-least"),
        (("--package", disc), "package"),
        (("--package", disc, "--at-least", "9.0"), "at-least"),
    ):
        (image,) = document(template, *arguments)["images"]  # type: ignore[misc]
        assert image["wanted_from"] == origin
    assert said not in run("verify", template, "--at-least", OLD).stdout


@pytest.mark.usefixtures("writers")
def test_what_the_emulated_host_wrote_is_no_evidence(template: Path, tmp_path: Path) -> None:
    image = Path(shutil.copyfile(template, tmp_path / "t.vhdx"))
    refused = run("lab", "boot", image)
    assert refused.returncode == 1
    assert "did not service this image" in refused.stderr
    assert image.read_bytes() == template.read_bytes()
    assert run("lab", "boot", image, "--force").returncode == 0
    done = run("verify", image, "--at-least", OLD)
    assert done.returncode == 1
    assert "current (fails: rehearsed)" in done.stdout
    (found,) = document(image)["images"]  # type: ignore[misc]
    assert (found["rehearsed"], found["holds"], found["confirmed"]) == (True, False, True)
    junit = run("verify", image, "--format", "junit").stdout
    assert ElementTree.fromstring(junit).get("failures") == "1"
    accepted = run("verify", image, "--accept-rehearsal")
    assert (accepted.returncode, "holds, rehearsed" in accepted.stdout) == (0, True)


def test_an_unsigned_package_is_warned_of_and_strict_fails(template: Path, disc: Path) -> None:
    arguments = (template, "--package", disc, "--require", "installed")
    (image,) = document(*arguments)["images"]  # type: ignore[misc]
    assert "is unsigned" in image["warnings"][0]
    assert run("verify", template, "--strict").returncode == 0
    (image,) = document(*arguments, "--strict")["images"]  # type: ignore[misc]
    assert image["objections"] == ["strict: 1 warning"]


@pytest.mark.parametrize("name", ["ext4-dirty-journal", "xfs-dirty-log", "lvm-thin"])
def test_what_was_not_replayed_or_read_reaches_every_command(
    testdata: Path, tmp_path: Path, name: str
) -> None:
    image = tmp_path / f"{name}.raw"
    data = bytearray(lzma.decompress((testdata / f"found/{name}.raw.xz").read_bytes()))
    if name == "ext4-dirty-journal":  # a sound one is replayed: its superblock is damaged
        data[data.index(bytes.fromhex("C03B3998 00000004")) + 48] ^= 1
    image.write_bytes(data)
    words = "thin" if name == "lvm-thin" else "not in place"
    assert words in run("inspect", image).stdout
    assert words in run("disk", "map", image).stdout
    listed = run("file", "list", image, "/")
    assert listed.returncode == 0
    assert words in listed.stderr
    assert (
        words
        in json.loads(run("file", "list", image, "/", "--format", "json").stdout)[
            "warnings"
        ].__str__()
    )
    done = run("verify", image)
    assert done.returncode == 3
    if name == "ext4-dirty-journal":
        assert "--accept-unclean" in done.stderr
        assert "--accept-unclean" not in run("verify", image, "--accept-unclean").stderr


REPORTS = (
    ("verify", "--at-least", "x"),
    ("verify", "--package", "none.cab"),
    ("verify", "--trust", "none.pem"),
)


@pytest.mark.parametrize("arguments", REPORTS, ids=[item[1] for item in REPORTS])
@pytest.mark.parametrize("form", ["junit", "json"])
def test_a_report_exists_also_where_the_run_fails_early(
    template: Path, tmp_path: Path, arguments: tuple[str, ...], form: str
) -> None:
    report = tmp_path / "report"
    report.write_text("<?xml last time, green", encoding="utf-8")
    command, *rest = arguments
    done = run(command, template, *rest, "--format", form, "--output", report)
    assert done.returncode in (2, 3)
    text = report.read_text("utf-8")
    shown = run(command, template, *rest, "--format", form)
    assert shown.returncode == done.returncode
    for found in (text, shown.stdout):
        if form == "json":
            assert json.loads(found)["error"]["exit_code"] == done.returncode
        else:
            root = ElementTree.fromstring(found)
            assert (root.tag, root.get("errors")) == ("testsuites", "1")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_package_that_cannot_be_checked_has_a_report(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    done = run("package", "check", "none.cab", "--format", "junit", "--output", report)
    assert done.returncode == 3
    assert ElementTree.fromstring(report.read_text("utf-8")).get("errors") == "1"


def test_an_output_that_can_be_no_report_is_refused_first(template: Path, tmp_path: Path) -> None:
    image = Path(shutil.copyfile(template, tmp_path / "t.vhdx"))
    for output in (image, tmp_path, tmp_path / "none/report.xml", ""):
        done = run("verify", image, "--output", output)
        assert done.returncode == (7 if output else 2)
        assert done.stdout == ""
    assert image.read_bytes() == template.read_bytes()
    assert run("verify", image, "--output", "-").stdout == run("verify", image).stdout


def test_a_full_disk_leaves_no_half_report(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    done = run("verify", template, "--output", tmp_path / "report.txt")
    assert done.returncode == 7
    assert "No space left" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_cases_have_times(template: Path) -> None:
    root = ElementTree.fromstring(run("verify", template, "--format", "junit").stdout)
    (case,) = root.iter("testcase")
    assert float(case.get("time", "")) > 0
    (suite,) = root.iter("testsuite")
    assert suite.get("timestamp", "")[10] == "T"


def test_a_package_that_does_not_apply_is_no_unreadable_image(
    template: Path, tmp_path: Path, disc: Path
) -> None:
    from imagetool.package import open_package

    with open_package(disc) as media:
        other = next(item for item in media.packages if "6.x" in item.name)
        (tmp_path / "other.cab").write_bytes(other.read_cabinet())
    (image,) = document(template, "--package", tmp_path / "other.cab")["images"]  # type: ignore[misc]
    assert (image["verdict"], image["exit_code"]) == ("does not apply", 1)


def test_a_reader_that_goes_makes_no_gate_green(template: Path) -> None:
    arguments = command_line("verify", template, "--at-least", NEW)
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_name_that_no_system_has_is_no_file(tmp_path: Path) -> None:
    for name in ("x" * 300, "x" * 300 + ".vhdx", "x" * 300 + ".cab"):
        for command in (("verify",), ("inspect",), ("package", "check"), ("registry", "get")):
            key = ("HKLM\\SYSTEM",) if command[0] == "registry" else ()
            assert run(*command, tmp_path / name, *key).returncode == 3, (command, name)


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_a_hive_of_no_bytes_is_named(unpack: Callable[[str], Path], command: str) -> None:
    path = unpack("found/windows-empty-software.raw.xz")
    done = run(command, path)
    assert done.returncode == 3
    assert "Windows\\System32\\config\\SOFTWARE: this hive has 0 bytes" in done.stderr
