"""Directories with other names on the emulated host: the whole job, as with a real host."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imagetool
from imagetool.errors import HostFailed, NoFile, WrongUsage
from imagetool.host.answers import CmdletFailed
from imagetool.host.frames import AnswerFrame, RequestFrame, encode_bytes
from imagetool.host.transport import read_script
from imagetool.lab import open_lab
from imagetool.lab.emulated_host import EmulatedHost
from imagetool.lab.path_filter import engine_command, translate_line
from imagetool.lab.path_names import PathNames, in_letters_of_files, parse_names
from imagetool.lab.winrm import Endpoint
from tests.program import refused, run
from tests.waiting import until

WINDOWS = PathNames([("D:\\images", "/srv/images"), ("D:\\images\\old", "/old")], "/tmp")
SHARE = PathNames(
    [("\\\\fs\\vhd\\a", "/srv/a"), ("E:\\", "/srv/a/e"), ("F:\\w", "/work")], "/tmp", "/work/x"
)
UNIX = PathNames([("/there", "/srv/images")], "/tmp")


@pytest.mark.parametrize(
    ("name", "directory"),
    [
        ("D:\\images\\t.vhdx", "/srv/images/t.vhdx"),
        ("D:\\images", "/srv/images"),
        ("D:\\images\\", "/srv/images/"),
        ("D:\\images\\old\\a b.vhdx", "/old/a b.vhdx"),
        ("C:\\Windows\\Temp\\it-1\\m\\", "/tmp/it-1/m/"),
    ],
)
def test_a_path_of_windows_is_one_here_and_back(name: str, directory: str) -> None:
    assert WINDOWS.to_directory(name) == directory
    assert WINDOWS.to_name(directory) == name
    assert WINDOWS.to_directory(name.upper().replace("\\", "/"))[:5] == directory[:5]


@pytest.mark.parametrize(
    ("names", "path", "directory"),
    [
        (WINDOWS, "d:/IMAGES\\T.vhdx", "/srv/images/T.vhdx"),
        (WINDOWS, "D:\\images\\..\\IMAGES\\.\\old\\x", "/old/x"),
        (WINDOWS, "D:\\images\\a.vhdx. .", "/srv/images/a.vhdx"),
        (WINDOWS, "\\\\?\\D:\\images\\x", "/srv/images/x"),
        (WINDOWS, "", ""),
        (WINDOWS, "D:\\images\\\0x", "D:\\images\\\0x"),
        (SHARE, "//FS/vhd/a/x", "/srv/a/x"),
        (SHARE, "\\\\?\\UNC\\fs\\vhd\\a\\x", "/srv/a/x"),
        (SHARE, "E:\\", "/srv/a/e/"),
        (SHARE, "e:x", "/srv/a/e/x"),
        (SHARE, "x.vhdx", "/work/x/x.vhdx"),
        (SHARE, "..\\x.vhdx", "/work/x.vhdx"),
        (SHARE, "f:x.vhdx", "/work/x/x.vhdx"),
        (SHARE, "\\W/x.vhdx", "/work/x.vhdx"),
    ],
)
def test_paths_follow_the_rules_of_windows(names: PathNames, path: str, directory: str) -> None:
    assert names.to_directory(path) == directory


def test_of_a_share_and_of_a_whole_drive_paths_go_back() -> None:
    for path, name in (
        ("/srv/a/x", "\\\\fs\\vhd\\a\\x"),
        ("/srv/a/e", "E:\\"),
        ("/srv/a/e/x", "E:\\x"),
        ("/work/x/y", "F:\\w\\x\\y"),
    ):
        assert SHARE.to_name(path) == name


def test_a_current_directory_without_a_name_gets_one() -> None:
    names = PathNames([("D:\\images", "/home/me/images")], "/tmp", "/home/me")
    assert names.to_directory("x.vhdx") == "/home/me/x.vhdx"
    assert names.to_name("/home/me/x.vhdx") == "C:\\Users\\lab\\x.vhdx"
    assert names.to_name("/home/me/images/x.vhdx") == "D:\\images\\x.vhdx"


@pytest.mark.parametrize(
    "path",
    [
        "E:\\x", "E:\\", "D:\\", "D:\\imagesx\\t.vhdx", "D:\\images\\..\\x", "D:\\images\\a?b",
        "D:\\images\\x:y", "\\\\server\\share\\x", "\\\\server", "\\\\?\\Volume{1-2}\\x",
    ],
)  # fmt: skip
def test_what_has_no_name_leads_nowhere_and_back(path: str) -> None:
    directory = WINDOWS.to_directory(path)
    assert directory.startswith("/proc/no-such-drive/")
    assert WINDOWS.to_name(directory) in (path, "D:\\x")


def test_a_path_of_this_machine_is_none_of_a_windows() -> None:
    for path in ("/etc/passwd", "/srv/images/t.vhdx", "/tmp/x", "\\x"):
        assert WINDOWS.to_directory(path).startswith("/proc/no-such-drive/C/")
    assert WINDOWS.to_name("/srv/imagesx") == "/srv/imagesx"


def test_other_names_that_are_no_windows_names() -> None:
    assert UNIX.to_directory("/etc/passwd") == "/etc/passwd"
    assert UNIX.to_directory("/there/../there/x y") == "/srv/images/x y"
    assert UNIX.to_directory("/therein/x") == "/therein/x"
    assert UNIX.to_directory("there") == "there"
    assert UNIX.text_to_names("'/srv/images/a b' is no /srv/images2") == (
        "'/there/a b' is no /srv/images2"
    )


PARTS = st.lists(
    st.text("aB .ü~", min_size=1, max_size=5).filter(lambda part: part[-1] not in " ."), max_size=4
)


@settings(max_examples=200)
@given(PARTS, st.sampled_from([WINDOWS, UNIX]))
def test_names_and_directories_are_inverse(parts: list[str], names: PathNames) -> None:
    path = "/".join(["/srv/images", *parts])
    assert names.to_directory(names.to_name(path)) == path


@settings(max_examples=200)
@given(PARTS, st.booleans(), st.sampled_from(["\\", "/", "//", "\\.\\", "\\.. \\..\\images\\"]))
def test_all_spellings_lead_to_one_directory(
    parts: list[str], capitals: bool, between: str
) -> None:
    path = "\\".join(["D:\\images", *parts])
    spelled = between.join([path[:9], path[10:]])
    if between.endswith("images\\"):  # out of it and in again
        spelled = f"D:\\images\\..\\images\\{path[10:]}"
    expected = WINDOWS.to_directory(path)
    found = WINDOWS.to_directory(spelled.upper() if capitals else spelled)
    assert found.rstrip("/").upper() == expected.upper()


def test_frames_are_translated_where_they_hold_paths() -> None:
    request = {
        "operation": "invoke",
        "parameters": {"Path": ["D:\\images\\t.vhdx"], "value": "D:\\images", "LogPath": "E:\\x"},
    }
    assert WINDOWS.request(request)["parameters"] == {
        "Path": ["/srv/images/t.vhdx"],
        "value": "D:\\images",
        "LogPath": "/proc/no-such-drive/E/x",
    }
    answer = {
        "kind": "result",
        "properties": {
            "lists": [
                {"entries": ["dold\0/srv/images/old", "dup\0../images", "f/old"]},
                {"error": "Access to the path '/old/a b' is denied."},
            ],
            "AccessPaths": ["/tmp/it-1/m/", "\\\\?\\Volume{1}\\"],
            "size": 3,
            "path": "/old/x",
            "text": "not /old/x alone",
        },
    }
    assert WINDOWS.answer(answer) == {
        "kind": "result",
        "properties": {
            "lists": [
                {"entries": ["dold\0D:\\images\\old", "dup\0..\\images", "f/old"]},
                {"error": "Access to the path 'D:\\images\\old\\a b' is denied."},
            ],
            "AccessPaths": ["C:\\Windows\\Temp\\it-1\\m\\", "\\\\?\\Volume{1}\\"],
            "size": 3,
            "path": "D:\\images\\old\\x",
            "text": "not /old/x alone",
        },
    }
    assert WINDOWS.answer({"kind": "hello", "windows": False})["windows"] is True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'/srv/images/a.vhdx' and /old, not /older: '/tmp/x'",
         "'D:\\images\\a.vhdx' and D:\\images\\old, not /older: 'C:\\Windows\\Temp\\x'"),
        ("Could not find file '/srv/images/a b's.vhdx'.",
         "Could not find file 'D:\\images\\a b's.vhdx'."),
        ("The path /tmp/it-1/m is bare.", "The path C:\\Windows\\Temp\\it-1\\m is bare."),
        ("Not here: /srv/images.", "Not here: D:\\images."),
        ("/srv/images.old/x /x/srv/images /srv/images-2",
         "/srv/images.old/x /x/srv/images /srv/images-2"),
        ("Could not find a part of the path '/proc/no-such-drive/E/x'.",
         "Could not find a part of the path 'E:\\x'."),
        ("/srv/images/a\n/srv/images/b", "D:\\images\\a\nD:\\images\\b"),
    ],
)  # fmt: skip
def test_paths_within_a_message_get_their_names(text: str, expected: str) -> None:
    for key in ("message", "status"):
        assert WINDOWS.answer({"kind": "error", key: text})[key] == expected


def test_a_share_is_on_another_machine_and_a_drive_may_be_missing() -> None:
    facts = {"kind": "Fixed", "system": "ext4", "free": 5, "size": 9}
    answer: dict[str, object] = {"number": 7, "kind": "result"}
    found = SHARE.answer({**answer, "properties": {**facts, "path": "/srv/a/x"}})
    network = {"path": "\\\\fs\\vhd\\a\\x", "kind": "Network", "system": "", "free": 0, "size": 0}
    assert found["properties"] == network
    same = {**answer, "properties": {**facts, "path": "E:\\x"}}
    assert SHARE.answer({**answer, "properties": {**facts, "path": "/srv/a/e/x"}}) == same
    missing = SHARE.answer({**answer, "properties": {**facts, "path": "/proc/no-such-drive/Q/x"}})
    assert (missing["number"], missing["kind"]) == (7, "error")
    assert "the drive 'Q:\\'" in str(missing["message"])


def test_every_other_line_passes_as_it_is() -> None:
    lines = read_script().splitlines(keepends=True)
    lines += [b"\n", b"", encode_bytes(b"<Objs /srv/images"), b"PE9ianMg\n", b"PE9ianMgVmVyc2lvb\n"]
    lines += [RequestFrame(3, "renew").encode(), AnswerFrame(3, "end").encode()]
    for line in lines:
        assert translate_line(line, WINDOWS.request) == line
        assert translate_line(line, WINDOWS.answer) == line
    line = RequestFrame(3, "stat", parameters={"path": "D:\\images"}, data=b"x").encode()
    first, second = line.splitlines(keepends=True)
    assert RequestFrame.decode(translate_line(first, WINDOWS.request)).parameters == {
        "path": "/srv/images"
    }
    assert translate_line(second, WINDOWS.request) == second


def test_wrong_names_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_names("") is None
    assert parse_names(" ; ") is None
    for text in (
        *("x", "D:\\x", f"x={tmp_path}", "D:\\x=relative", "D:\\x=/no/such", f"D:={tmp_path}"),
        *("D:\\x=/", f"/={tmp_path}", f"\\\\fs={tmp_path}", f"\\\\?\\D:\\x={tmp_path}"),
        *(f"D:\\a\\..\\x={tmp_path}", f"D:\\a?b={tmp_path}", f"={tmp_path}"),
        f"D:\\x={tmp_path};d:/X/={tmp_path.parent}",
    ):
        with pytest.raises(WrongUsage, match="no NAME=DIRECTORY"):
            parse_names(text)
    with pytest.raises(WrongUsage, match="some are not"):
        parse_names(f"D:\\x={tmp_path};/y={tmp_path}")
    monkeypatch.setenv("IMAGETOOL_LAB_NAMES", f"D:\\x={tmp_path}")
    with pytest.raises(WrongUsage, match="which only PowerShell can use"):
        open_lab(engine="python")


def test_of_files_that_differ_in_case_the_one_of_that_name_is_found(tmp_path: Path) -> None:
    (tmp_path / "Images").mkdir()
    (tmp_path / "Images" / "T.vhdx").touch()
    (tmp_path / "Images" / "t.vhdx").touch()
    for asked, found in (
        ("Images/t.vhdx", "Images/t.vhdx"),
        ("IMAGES/T.vhdx", "Images/T.vhdx"),
        ("images/T.VHDX", "Images/T.vhdx"),
        ("images/New.vhdx", "Images/New.vhdx"),
        ("none/New.vhdx", "none/New.vhdx"),
        ("images/", "Images/"),
    ):
        assert in_letters_of_files(f"{tmp_path}/{asked}") == f"{tmp_path}/{found}"


# The process


def start_filter(tmp_path: Path, program: str, **options: object) -> subprocess.Popen[bytes]:
    """The filter in front of a program in Python."""
    environment = os.environ | {"IMAGETOOL_LAB_NAMES": f"D:\\x={tmp_path}"}
    return subprocess.Popen(
        [*engine_command(sys.executable, environment), "-c", program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
        cwd=tmp_path,
    )  # fmt: skip


def test_the_filter_ends_as_its_program_does(tmp_path: Path) -> None:
    echo = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()); sys.exit(7)"
    request = RequestFrame(1, "stat", parameters={"path": "D:\\X\\a"}).encode()
    process = start_filter(tmp_path, echo)
    output, _ = process.communicate(b"text\n" + request + b":AAAA\ncut off")
    assert process.returncode == 7
    text, frame, *rest = output.splitlines()
    assert (text, rest) == (b"text", [b":AAAA", b"cut off"])
    assert RequestFrame.decode(frame).parameters == {"path": f"{tmp_path}/a"}
    killed = start_filter(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    environment = os.environ | {"IMAGETOOL_LAB_NAMES": f"D:\\x={tmp_path}"}
    done = subprocess.run(engine_command("/no/such/program", environment), env=environment,
                          capture_output=True, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (
        127, b"/no/such/program cannot be started: No such file or directory\n",
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_filter_that_is_ended_leaves_no_program(tmp_path: Path, number: signal.Signals) -> None:
    waiting = (
        "import os, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "print(os.getpid(), flush=True); signal.pause()"
    )
    process = start_filter(tmp_path, waiting)
    assert process.stdout is not None
    program = int(process.stdout.readline())
    process.send_signal(number)
    process.communicate()
    assert process.returncode == -number
    assert until(lambda: not is_running(program))


def is_running(process: int) -> bool:
    """True for a process that is there, and no zombie."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text("ascii")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def images(template: Path, tmp_path: Path) -> Path:
    """The directory that is D:\\images there, with template.vhdx."""
    folder = tmp_path / "images"
    folder.mkdir()
    shutil.copyfile(template, folder / "template.vhdx")
    return folder


@pytest.fixture
def empty_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture(params=["pipe", "ntlm over http", "https"])
def host(
    request: pytest.FixtureRequest,
    engine: str,
    images: Path,
    empty_temporary: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """The name of a host where `images` is D:\\images, in each of the ways to reach one."""
    names = f"D:\\images={images}"
    if request.param == "pipe":
        monkeypatch.setenv("PATH", f"{Path(engine).parent}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "powershell")
        monkeypatch.setenv("IMAGETOOL_LAB_NAMES", names)
        yield "lab"
        return
    https = request.param == "https"
    with Endpoint(https=https, engine=engine, lasting=True, names=names) as endpoint:
        certificate = f"certificate = {str(endpoint.certificate)!r}\n" if https else ""
        configuration = tmp_path / "config.toml"
        configuration.write_text(
            f"[hosts.hv01]\nurl = {endpoint.url!r}\ntransport = 'ntlm'\n{certificate}"
            f"[hosts.hv01.paths]\n{str(images)!r} = 'D:\\images'\n",
            encoding="utf-8",
        )
        monkeypatch.setenv("IMAGETOOL_CONFIG", str(configuration))
        monkeypatch.setenv("IMAGETOOL_USER", endpoint.user)
        monkeypatch.setenv("IMAGETOOL_PASSWORD", endpoint.password)
        yield "hv01"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.usefixtures("writers")
def test_the_whole_job_where_paths_differ(
    host: str, images: Path, disc: Path, empty_temporary: Path
) -> None:
    """Plan, inject by it, inject by paths, verify: all by the names that the host has."""
    image, before = f"{host}:D:\\images\\template.vhdx", digest(images / "template.vhdx")
    plan = images.parent / "plan.json"
    done = run("plan", image, "--package", disc, "--allow-unsigned", "--save", plan)
    assert done.returncode == 0, done.stderr
    assert "output   D:\\images\\template-serviced.vhdx" in done.stdout
    done = run("inject", "--plan", plan, "--allow-unsigned")
    assert done.returncode == 0, done.stderr
    steps = {step["name"]: step["facts"] for step in json.loads(plan.read_text("utf-8"))["steps"]}
    assert steps["copy"]["target"].startswith("D:\\images\\it-")
    done = run("inject", image, "--package", disc, "--allow-unsigned",
               "--output", f"{host}:d:/images/second.vhdx", "--digest",
               "--format", "json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["images"]
    assert result["output"] == f"{host}:d:/images/second.vhdx"
    assert result["digests"] == {"image": before, "output": digest(images / "second.vhdx")}
    assert result["dism_log"]
    for name in ("template-serviced", "second"):
        there = run("verify", f"{host}:D:\\images\\{name}.vhdx", "--format", "json")
        here = run("verify", images / f"{name}.vhdx", "--format", "json")
        assert there.returncode == here.returncode
        assert (
            json.loads(there.stdout)["images"][0]["verdict"]
            == json.loads(here.stdout)["images"][0]["verdict"]
        )
    assert sorted(item.name for item in images.iterdir()) == [
        "second.vhdx", "template-serviced.vhdx", "template.vhdx",
    ]  # fmt: skip
    assert digest(images / "template.vhdx") == before
    assert not list(empty_temporary.rglob("it-*"))
    assert "D:\\images\\none.vhdx: there is no such file" in refused(
        3, "verify", f"{host}:D:\\images\\none.vhdx"
    )
    assert "no such file" in refused(3, "verify", f"{host}:E:\\none.vhdx")


@pytest.mark.usefixtures("writers")
def test_paths_here_are_mapped_by_the_configuration(host: str, images: Path, disc: Path) -> None:
    options = ("--package", disc, "--host", host, "--allow-unsigned")
    if host == "lab":  # whose paths are said to be those of this machine
        refused(4, "inject", images / "template.vhdx", *options, "--output", images / "new.vhdx")
        return
    done = run("inject", images / "template.vhdx", *options, "--output", images / "new.vhdx")
    assert done.returncode == 0, done.stderr
    assert (images / "new.vhdx").is_file()
    outside = images.parent / "new.vhdx"
    assert "nothing says where it is on hv01" in refused(
        2, "inject", images / "template.vhdx", *options, "--output", outside
    )


def test_the_library_finds_images_by_their_names_there(host: str, images: Path) -> None:
    shutil.copyfile(images / "template.vhdx", images / "Second One.VHDX")
    with imagetool.connect(host) as connection:
        found = connection.find(r"D:\images\*.vhdx")
        assert [str(item) for item in found] == [
            f"{host}:D:\\images\\Second One.VHDX", f"{host}:D:\\images\\template.vhdx",
        ]  # fmt: skip
        assert {imagetool.inspect(image).guest.name for image in found} == {
            "Windows Server 2012 R2 Standard"
        }
        assert str(found[0].parent.join("x.vhdx")) == f"{host}:D:\\images\\x.vhdx"
        with pytest.raises(NoFile):
            imagetool.inspect(connection.location("D:\\images\\none.vhdx"))
    with pytest.raises(HostFailed, match="closed"):
        imagetool.inspect(found[0])


# The rules of paths, in the whole job


@pytest.fixture
def windows_lab(
    engine: str, images: Path, empty_temporary: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:  # fmt: skip
    """`lab` with D:\\images, a share for the same directory, and another current directory."""
    monkeypatch.setenv("PATH", f"{Path(engine).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "powershell")
    monkeypatch.setenv("IMAGETOOL_LAB_NAMES", f"D:\\images={images};\\\\fs\\vhd={images}")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return images


def test_a_missing_drive_is_what_it_is_to_windows(windows_lab: Path) -> None:
    shutil.copyfile(windows_lab / "template.vhdx", "here.vhdx")
    with closing(open_lab(EmulatedHost())) as host:
        for path in ("E:\\x\\t.vhdx", "D:\\none\\t.vhdx", "\\\\other\\share\\t.vhdx", "/etc/x/t"):
            for operation in (
                {"operation": "sha256", "path": path},
                {"operation": "make-directory", "path": path},
                {"operation": "make-private-directory", "path": path},
                {"operation": "write", "path": path, "offset": 0, "data": b"x"},
                {"operation": "copy", "source": "here.vhdx", "target": path},
                {"operation": "rename", "source": "here.vhdx", "target": path},
                {"operation": "delete", "path": path},
            ):
                with pytest.raises(CmdletFailed) as caught:
                    host.operate(operation.pop("operation"), **operation)  # type: ignore[arg-type]
                assert caught.value.hresult == 0x80070003, (path, operation)
                assert "Could not find a part of the path" in caught.value.host_message
                assert "/proc" not in caught.value.host_message
        with pytest.raises(CmdletFailed, match="Could not find the drive 'E:") as caught:
            host.operate("volume", path="E:x")
        assert caught.value.hresult == 0x80070003
        with pytest.raises(CmdletFailed) as caught:
            host.operate("sha256", path="none.vhdx")
        assert "'C:\\Users\\lab\\none.vhdx'" in caught.value.host_message
        assert host.operate("volume", path="\\images").text("path") == "C:\\images"
        assert host.operate("echo", value="D:\\images")["value"] == "D:\\images"
    assert [item.name for item in Path.cwd().iterdir()] == ["here.vhdx"]


def test_an_image_is_read_by_every_spelling_of_its_path(windows_lab: Path) -> None:
    shutil.copyfile(windows_lab / "template.vhdx", "Here.vhdx")
    (windows_lab / "loop").symlink_to(windows_lab)
    for path in (
        *("D:\\images\\template.vhdx", "d:/IMAGES/Template.VHDX", "D:\\images\\.\\TEMPLATE.vhdx"),
        *(
            "\\\\fs\\vhd\\template.vhdx",
            "\\\\FS/VHD/template.vhdx",
            "\\\\?\\D:\\images\\template.vhdx",
        ),
        *(
            "\\\\?\\UNC\\fs\\vhd\\template.vhdx",
            "here.VHDX",
            "C:\\Users\\lab\\here.vhdx",
            "C:here.vhdx",
        ),
        *("\\Users\\LAB\\here.vhdx", "D:\\images\\*.VHDX", "D:\\images\\**\\T*.vhdx", "*.vhdx"),
        *("\\\\?\\D:\\images\\*.vhdx", "D:\\images", "\\\\fs\\vhd", "D:\\images\\"),
    ):
        done = run("verify", f"lab:{path}", "--format", "json")
        verdicts = [image["verdict"] for image in json.loads(done.stdout)["images"]]
        assert verdicts == ["current"], (path, done.stderr)
    assert "in the name of a server or share" in refused(2, "verify", "lab:\\\\*\\vhd\\t.vhdx")
    for path in ("D:template.vhdx", "\\images\\template.vhdx", str(windows_lab / "template.vhdx")):
        assert "there is no such file" in refused(3, "verify", f"lab:{path}")


@pytest.mark.usefixtures("writers")
def test_an_output_is_written_where_its_path_says(windows_lab: Path, disc: Path) -> None:
    image, options = "lab:d:/images/TEMPLATE.vhdx", ("--package", disc, "--allow-unsigned")
    for output, words in (
        ("D:\\IMAGES\\Template.VHDX", "there is a file of that name already"),
        ("D:\\images\\", "this is the path of a directory"),
        ("E:\\out\\s.vhdx", "E:\\out: there is no such directory"),
        ("D:\\images\\nul.vhdx", "no name that can be written safely"),
        ("D:\\images\\s.vhdx:x", "no name that can be written safely"),
    ):
        assert words in refused(7, "inject", image, *options, "--output", f"lab:{output}")
    for output, written in (
        ("s1.vhdx", Path("s1.vhdx")),
        ("\\Users\\lab\\s2.vhdx", Path("s2.vhdx")),
        ("/users\\lab/s3.vhdx", Path("s3.vhdx")),
        ("D:/Images\\s4.vhdx", windows_lab / "s4.vhdx"),
        ("\\\\fs\\vhd\\s5.vhdx", windows_lab / "s5.vhdx"),
        ("\\\\?\\D:\\images\\s6.vhdx", windows_lab / "s6.vhdx"),
    ):
        planned = run("plan", image, *options, "--output", f"lab:{output}", "--format", "json")
        steps = {step["name"]: step["facts"] for step in json.loads(planned.stdout)["steps"]}
        folder = re.split(r"[\\/]it-", steps["copy"]["target"])[0]
        target = steps["publish"]["target"]
        if output in ("s1.vhdx", "\\\\fs\\vhd\\s5.vhdx"):
            done = run("inject", image, *options, "--output", f"lab:{output}")
            assert done.returncode == 0, done.stderr
            assert written.is_file()
        assert target.startswith(folder)
        assert len(re.findall(r"[\\/]", target[len(folder) :])) == 1
    assert not list(windows_lab.glob("it-*"))
    assert not list(Path.cwd().glob("it-*"))


@pytest.mark.usefixtures("writers")
def test_a_plan_is_for_its_image_by_any_spelling(windows_lab: Path, disc: Path) -> None:
    done = run("plan", "lab:D:\\images\\template.vhdx", "--package", disc, "--allow-unsigned",
               "--save", "plan.json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    inject = ("inject", "--plan", "plan.json", "--allow-unsigned")
    assert "the plan is for" in refused(2, *inject, "lab:D:\\images\\other.vhdx")
    done = run(*inject, "lab:d:/IMAGES/x/../Template.vhdx")
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("writers")
def test_what_fails_is_told_by_the_names_there(
    windows_lab: Path, disc: Path, empty_temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGETOOL_LAB_FAULTS", "Dismount-VHD=0x8007001F")
    done = run("inject", "lab:D:\\images\\template.vhdx", "--package", disc,
               "--allow-unsigned", "--output", "lab:D:\\images\\s.vhdx")  # fmt: skip
    assert done.returncode == 6
    assert re.search(r"the mounted image D:\\images\\it-[0-9a-f]{8}\.vhdx", done.stderr)
    assert str(windows_lab.parent) not in done.stderr
    monkeypatch.delenv("IMAGETOOL_LAB_FAULTS")
    assert run("lab", "reset").returncode == 0


def test_a_shell_starts_in_a_named_directory_and_runs_an_installed_script(
    engine: str, images: Path
) -> None:
    from imagetool.host.configuration import ConfiguredHost
    from imagetool.host.configuration.credentials import Credentials
    from imagetool.host.winrm import open_winrm

    (images / "Session.ps1").write_bytes(read_script())
    with Endpoint(
        engine=engine, emulated_host=EmulatedHost(), names=f"D:\\images={images}"
    ) as endpoint:
        host = ConfiguredHost(
            name="hv01", url=endpoint.url, transport="ntlm", script="d:\\IMAGES\\session.ps1"
        )
        with open_winrm(host, lambda: Credentials(endpoint.user, endpoint.password)) as session:
            assert session.on_windows
            assert session.files.list_names("D:\\images") == ["Session.ps1", "template.vhdx"]
            temporary = session.files.temporary_directory()
            assert temporary.startswith("C:\\Windows\\Temp\\imagetool-")
