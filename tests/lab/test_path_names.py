"""Directories with other names on the emulated host: the whole job, as with a real host."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imagetool
from imagetool.errors import HostFailed, NoFile, WrongUsage
from imagetool.lab import open_lab
from imagetool.lab.path_names import PathNames, parse_names
from imagetool.lab.winrm import Endpoint
from tests.program import refused, run

WINDOWS = PathNames([("D:\\images", "/srv/images"), ("D:\\images\\old", "/old")], "/tmp")
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


def test_what_has_no_name_leads_nowhere() -> None:
    for path in ("E:\\x", "D:\\imagesx\\t.vhdx", "\\\\server\\share\\x", "/etc/passwd", "\\x"):
        assert WINDOWS.to_directory(path).startswith("/dev/null/")
    assert UNIX.to_directory("/etc/passwd") == "/etc/passwd"
    assert WINDOWS.to_name("/srv/imagesx") == "/srv/imagesx"


PARTS = st.lists(st.text("aB .ü~", min_size=1, max_size=5), max_size=4)


@settings(max_examples=200)
@given(PARTS, st.sampled_from([WINDOWS, UNIX]))
def test_names_and_directories_are_inverse(parts: list[str], names: PathNames) -> None:
    path = "/".join(["/srv/images", *parts])
    assert names.to_directory(names.to_name(path)) == path


def test_frames_are_translated_where_they_hold_paths() -> None:
    request = {
        "operation": "invoke",
        "parameters": {"Path": ["D:\\images\\t.vhdx"], "value": "D:\\images", "LogPath": "E:\\x"},
    }
    assert WINDOWS.request(request)["parameters"] == {
        "Path": ["/srv/images/t.vhdx"],
        "value": "D:\\images",
        "LogPath": "/dev/null/no-such-directory",
    }
    answer = {
        "kind": "error",
        "message": "'/srv/images/a.vhdx' and /old, not /older: '/tmp/x'",
        "properties": {"entries": ["dold\0/srv/images/old"], "size": 3, "path": "/old/x"},
    }
    assert WINDOWS.answer(answer) == {
        "kind": "error",
        "message": "'D:\\images\\a.vhdx' and D:\\images\\old, not /older: 'C:\\Windows\\Temp\\x'",
        "properties": {
            "entries": ["dold\0D:\\images\\old"],
            "size": 3,
            "path": "D:\\images\\old\\x",
        },
    }
    assert WINDOWS.answer({"kind": "hello", "windows": False})["windows"] is True


def test_wrong_names_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_names("") is None
    for text in ("x", "D:\\x", f"x={tmp_path}", "D:\\x=relative", "D:\\x=/no/such"):
        with pytest.raises(WrongUsage, match="no NAME=DIRECTORY"):
            parse_names(text)
    with pytest.raises(WrongUsage, match="some are not"):
        parse_names(f"D:\\x={tmp_path};/y={tmp_path}")
    monkeypatch.setenv("IMAGETOOL_LAB_NAMES", f"D:\\x={tmp_path}")
    with pytest.raises(WrongUsage, match="which only PowerShell can use"):
        open_lab(engine="python")


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
