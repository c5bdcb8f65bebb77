"""The program from a shell: exit codes, sentences, JSON, hostile names."""

from __future__ import annotations

import bz2
import json
import lzma
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import imagetool
from fixtures import guests
from fixtures.guests import cached_guest
from tests.program import command_line, refused, run

AUTO = "HKLM\\SOFTWARE\\Microsoft\\Virtual Machine\\Auto"
VALUE = "IntegrationServicesVersion"


def test_the_value_comes_out_bare(template: Path) -> None:
    assert run("registry", "get", template, AUTO, VALUE).stdout == "6.3.9600.16384\n"
    assert imagetool.read_registry_value(template, AUTO, VALUE) == "6.3.9600.16384"


def test_verdicts_and_exit_codes(template: Path, disc: Path) -> None:
    done = run("verify", template, "--package", disc)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{template}: outdated")
    assert run("verify", template).returncode == 0
    assert run("verify", template, "--at-least", "6.3.9600.16384").returncode == 0
    assert run("verify", template, "--at-least", "6.3.9600.16385").returncode == 1
    assert "no version" in refused(2, "verify", template, "--at-least", "new")


def test_several_images_give_the_first_code_of_the_list(template: Path, tmp_path: Path) -> None:
    none = tmp_path / "none.vhdx"
    assert run("verify", template, none).returncode == 3
    assert run("verify", template, template, "--at-least", "9.0.0.0").returncode == 1
    shutil.copyfile(template, tmp_path / "a.vhdx")
    done = run("verify", tmp_path / "*.vhdx", "--format", "json")
    data = json.loads(done.stdout)
    assert data["schema"] == "imagetool/verify/1"
    assert [item["verdict"] for item in data["images"]] == ["current"]
    assert "no file fits" in refused(3, "verify", tmp_path / "*.none")


def test_json_carries_its_schema(template: Path, disc: Path) -> None:
    for arguments, schema in (
        (("inspect", template), "inspect"),
        (("verify", template), "verify"),
        (("registry", "get", template, AUTO, VALUE), "registry-get"),
        (("registry", "list", template, AUTO), "registry-list"),
        (("file", "list", template, "Windows"), "file-list"),
        (("disk", "map", template), "disk-map"),
        (("package", "show", disc), "package-show"),
        (("package", "list", disc), "package-list"),
    ):
        data = json.loads(run(*arguments, "--format", "json").stdout)
        assert data["schema"] == f"imagetool/{schema}/1"
    evidence = json.loads(run("verify", template, "--format", "json").stdout)["images"][0]
    assert evidence["present"] == evidence["recorded"] == "6.3.9600.16384"
    assert evidence["evidence"]["recorded_at"] == "2024-03-06T07:15:00Z"


def test_files_are_read_and_extracted(template: Path, tmp_path: Path) -> None:
    done = run("file", "list", template, "C:\\windows\\system32\\DRIVERS")
    assert "vmbus.sys" in done.stdout
    target = tmp_path / "icsvc.dll"
    assert run("file", "extract", template, "Windows/System32/icsvc.dll", tmp_path).returncode == 0
    assert target.read_bytes()[:2] == b"MZ"
    assert "already" in refused(
        7, "file", "extract", template, "Windows/System32/icsvc.dll", target
    )
    small = ("--max-size", "10")
    other = tmp_path / "other"
    words = refused(7, "file", "extract", template, "Windows/System32/icsvc.dll", other, *small)
    assert "max-size" in words
    assert not other.exists()
    assert "no file Windows\\none" in refused(1, "file", "read", template, "Windows/none")


def test_packages_are_listed_and_extracted(disc: Path, tmp_path: Path) -> None:
    assert "support/x86/Windows6.2" in run("package", "list", disc).stdout
    out = tmp_path / "out"
    assert run("package", "extract", disc, out).returncode == 0
    cabinet = out / "support/amd64/Windows6.2-HyperVIntegrationServices-x64.cab"
    assert "wvmbus.inf" in run("package", "show", cabinet).stdout
    assert run("package", "extract", cabinet, tmp_path / "cab").returncode == 0
    assert (tmp_path / "cab/update.mum").is_file()
    assert run("package", "show", tmp_path / "cab").returncode == 0


def test_a_cabinet_that_wants_out_of_its_directory_writes_nothing(
    testdata: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    refused(7, "package", "extract", testdata / "cab/libmspack/dirwalk-vulns.cab", out)
    assert not out.exists()


def test_bad_inputs_end_in_a_sentence(template: Path, tmp_path: Path) -> None:
    empty, text, cut = tmp_path / "empty.vhdx", tmp_path / "text.vhdx", tmp_path / "cut.vhdx"
    empty.touch()
    text.write_text("hello\n" * 500, encoding="utf-8")
    cut.write_bytes(template.read_bytes()[: 9 << 20])
    folder = tmp_path / "folder"
    folder.mkdir()
    for command in (("inspect",), ("verify",), ("disk", "map"), ("file", "list")):
        assert "is empty" in refused(3, *command, empty)
        assert "this is a text file" in refused(3, *command, text)
        assert "directory" in refused(3, *command, folder)
        assert "no such file" in refused(3, *command, tmp_path / "none.vhdx")
    assert "beyond the end of the file" in refused(3, "verify", cut)
    assert "no value none" in refused(1, "registry", "get", template, AUTO, "none")
    assert "no key" in refused(1, "registry", "get", template, AUTO + "\\none", "x")
    assert "does not begin with HKLM" in refused(2, "registry", "get", template, "HKCU\\x", "y")
    assert "no volume 9" in refused(2, "verify", template, "--volume", "9")
    assert "holds no Windows" in refused(3, "verify", template, "--volume", "3")


def test_what_comes_later_refuses_by_name(template: Path, disc: Path, tmp_path: Path) -> None:
    for command in ("rollback", "discard", "recover", "service", "advise"):
        assert f"`imagetool {command}` comes later" in refused(3, command, "x", "--vm", "y")
    assert "no user is known" in refused(4, "inspect", "hv01:D:\\images\\t.vhdx")
    assert "in place comes later" in refused(3, "inject", template, "--package", disc)
    assert run("nonsense").returncode == 2
    assert run("verify").returncode == 2


def test_help_has_an_example_everywhere() -> None:
    groups = {"registry": ["get", "list"], "file": ["list", "read", "extract"]}
    groups |= {"disk": ["map", "export"], "package": ["show", "list", "extract", "check"]}
    groups |= {"lab": ["boot", "serve"], "host": ["check", "login", "logout"]}
    commands = [[name] for name in ("inspect", "verify", "inject", "plan")]
    commands += [[group, name] for group, names in groups.items() for name in names]
    for command in [[], *commands]:
        done = run(*command, "--help")
        assert done.returncode == 0
        assert "Example: imagetool" in done.stdout, command
    assert run("--version").stdout == f"imagetool {imagetool.__version__}\n"


def test_the_disks_and_hives_of_other_people(testdata: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(testdata / "disk/server2022-dynamic-ntfs.vhdx.zip") as archive:
        archive.extractall(tmp_path)
        vhdx = tmp_path / archive.namelist()[0]
    assert "no Windows was found" in run("inspect", vhdx).stdout
    assert run("inspect", vhdx).returncode == 0
    assert "8bd3467c-b6de-42c5-9e1b-a566643aa910" in run("disk", "map", vhdx).stdout
    assert run("file", "list", vhdx).returncode == 0
    assert "no Windows" in refused(3, "verify", vhdx)

    def unpacked(name: str) -> Path:
        packed = testdata / name
        data = packed.read_bytes()
        path = tmp_path / packed.stem
        path.write_bytes((bz2 if packed.suffix == ".bz2" else lzma).decompress(data))
        return path

    fake = unpacked("fs/ntfs-fake-hives.raw.xz")
    assert "no Windows was found" in refused(3, "verify", fake)
    assert "SYSTEM" in run("file", "list", fake, "windows/system32/config").stdout
    ext4 = unpacked("fs/hierarchy_64.ext4.xz")
    assert "no Windows was found (volumes: ext)" in refused(3, "verify", ext4)
    assert "thejungle.txt" in run("file", "list", ext4).stdout
    assert run("file", "read", ext4, "/directory2/fortune9").returncode == 0
    vhd = unpacked("disk/hyperv2012r2-dynamic.vhd.bz2")
    assert "VHD, dynamic, 127.0 GiB" in run("disk", "map", vhd).stdout
    refused(3, "inspect", unpacked("disk/dfvfs-fat-differential.vhd.xz"))
    hive = unpacked("hive/windows10-SYSTEM-dirty.xz")
    key = "ControlSet001\\Control\\Class\\{4d36e967-e325-11ce-bfc1-08002be10318}\\0003"
    for suffix in ("LOG1", "LOG2"):
        unpacked(f"hive/windows10-SYSTEM-dirty.{suffix}.xz")
    done = run("registry", "get", hive, f"HKLM\\SYSTEM\\{key}", "DriverVersion")
    assert done.stdout == "10.0.16299.251\n"
    old = unpacked("hive/windows81-SYSTEM-dirty-nolog.xz")
    computer = "CurrentControlSet\\Control\\ComputerName\\ComputerName"
    assert run("registry", "get", old, computer, "ComputerName").stdout == "SENSEI\n"
    start = run("registry", "get", old, "ControlSet001\\Services\\vmicheartbeat", "Start")
    assert start.stdout == "3\n"


def test_the_exported_disk_equals_what_qemu_exports(
    oracle: Callable[[str], str], tmp_path: Path
) -> None:
    disk = cached_guest(guests.SMALL)
    raw, theirs = tmp_path / "ours.raw", tmp_path / "theirs.raw"
    assert run("disk", "export", disk, raw).returncode == 0
    subprocess.run(
        [oracle("qemu-img"), "convert", "-O", "raw", disk, theirs],
        check=True,
        capture_output=True,
    )
    assert subprocess.run(["cmp", raw, theirs], check=False).returncode == 0
    assert "already" in refused(7, "disk", "export", disk, raw)


def test_names_from_an_image_cannot_move_the_cursor() -> None:
    from imagetool.report.text import format_table, safe

    hostile = "a\x1b[2J\u202eb\ud800c\r\n"
    assert safe(hostile) == "a\\x1b[2J\\u202eb\\ud800c\\x0d\\x0a"
    assert safe("grüße 日本") == "grüße 日本"
    assert "\x1b" not in format_table([(hostile, hostile)])


def test_odd_file_names_are_no_trouble(template: Path, tmp_path: Path) -> None:
    for name in (
        "-dash.vhdx",
        "sp ace 'q\".vhdx",
        "$(touch x).vhdx",
        "日本.vhdx",
        "new\nline.vhdx",
    ):
        path = tmp_path / name
        path.symlink_to(template)
        done = run("verify", path)
        assert done.returncode == 0, name
        assert run("verify", "--", name, cwd=tmp_path).returncode == 0
    assert not (tmp_path / "x").exists()


def test_a_closed_pipe_is_no_fault(template: Path) -> None:
    command = shlex.join(command_line("registry", "list", template, "HKLM\\SOFTWARE\\Classes"))
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} | head -n 1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


def test_nothing_heavy_is_imported_for_a_question(template: Path) -> None:
    program = (
        "import sys, imagetool; "
        "imagetool.read_registry_value(*sys.argv[1:], 'IntegrationServicesVersion'); "
        "heavy = ('winrm', 'rich', 'typer', 'defusedxml'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, template, AUTO], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
