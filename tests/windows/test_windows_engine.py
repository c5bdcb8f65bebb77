"""The script under a PowerShell for Windows, which runs under Wine: `make windows` runs these.

They show the branches for Windows of the script, Windows' paths, and a Windows .NET; not Windows
PowerShell, its modules, access control as NTFS has it, nor mount points.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagetool.host.answers import CmdletFailed
from imagetool.host.local import open_local
from imagetool.host.session import Session
from imagetool.lab.lasting_host import find_host
from imagetool.lab.winrm import Endpoint
from tests.conftest import ROOT
from tests.program import refused, run
from tests.waiting import until

VARIABLE = "IMAGETOOL_WINDOWS_ENGINE"


@pytest.fixture(scope="module")
def windows_engine() -> Path:
    """The launcher of a PowerShell for Windows; D: is the directory that PWSH_D names."""
    beside = ROOT.parent / "shared/pwsh-windows/pwsh"
    launcher = Path(os.environ.get(VARIABLE) or beside)
    if VARIABLE not in os.environ or not launcher.is_file():
        pytest.skip(f"{VARIABLE} names no PowerShell for Windows")
    return launcher


@pytest.fixture
def drive(
    windows_engine: Path, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The directory that is D: there, with the template; the engine is the first in PATH."""
    folder = tmp_path / "drive"
    (folder / "images").mkdir(parents=True)
    shutil.copyfile(template, folder / "images/template.vhdx")
    monkeypatch.setenv("PWSH_D", str(folder))
    monkeypatch.setenv("PATH", f"{windows_engine.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "powershell")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def session(windows_engine: Path, drive: Path) -> Iterator[Session]:
    with open_local(str(windows_engine)) as opened:
        yield opened


@pytest.fixture(params=["lab", "https"])
def host(
    request: pytest.FixtureRequest,
    windows_engine: Path,
    drive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """The emulated host by its name, and over WinRM."""
    if request.param == "lab":
        yield "lab"
        return
    with Endpoint(engine=str(windows_engine), https=True, lasting=True) as endpoint:
        configuration = tmp_path / "config.toml"
        configuration.write_text(
            f"[hosts.hv01]\nurl = {endpoint.url!r}\ntransport = 'ntlm'\n"
            f"certificate = {str(endpoint.certificate)!r}\n"
        )
        monkeypatch.setenv("IMAGETOOL_CONFIG", str(configuration))
        monkeypatch.setenv("IMAGETOOL_USER", endpoint.user)
        monkeypatch.setenv("IMAGETOOL_PASSWORD", endpoint.password)
        yield "hv01"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_session_is_one_of_windows(session: Session) -> None:
    assert session.on_windows
    facts = session.operate("facts")
    assert str(facts["system"]).startswith("Microsoft Windows NT")
    assert facts["elevated"] is True
    assert str(facts["temporary"]).startswith("C:\\")
    assert facts["filtered"] is None  # Wine throws where the claims are asked


def test_files_and_directories_there(session: Session, drive: Path) -> None:
    files, own = session.files, "D:\\it-01234567"
    files.make_private_directory(own, own=True)
    access = session.operate("access", path=own).text("access")
    assert access.startswith("D:")
    assert "WD)" not in access  # nobody else
    for name in ("s", "m"):
        files.make_directory(f"{own}\\{name}")
    files.upload(b"x" * 100_000, f"{own}\\s\\file")
    assert (drive / "it-01234567/s/file").read_bytes() == b"x" * 100_000
    files.remove_tree(f"{own}\\s")
    files.remove_directory(f"{own}\\m", own=True)
    files.remove_directory(f"{own}\\m", own=True)
    assert files.list_names(own) == []
    with pytest.raises(CmdletFailed, match="not in a directory of imagetool's"):
        files.remove_tree("D:\\images")
    assert session.operate("close-hives", directory=f"{own}\\m")["closed"] == []
    assert files.servicing_processes([1]) == []
    session.close()
    assert sorted(item.name for item in drive.iterdir()) == ["images"]


def test_a_file_that_is_open_is_in_use(session: Session, windows_engine: Path) -> None:
    path = "D:\\images\\template.vhdx"
    assert not session.files.in_use(path)
    with open_local(str(windows_engine)) as other:
        other.operate("open", path=path, file=1, ranges=[])
        assert session.files.in_use(path)
    assert not session.files.in_use(path)


@pytest.mark.usefixtures("writers")
def test_the_whole_job_with_paths_of_windows(host: str, drive: Path, disc: Path) -> None:
    before = digest(drive / "images/template.vhdx")
    image, output = f"{host}:D:\\images\\template.vhdx", f"{host}:D:\\images\\serviced.vhdx"
    done = run("inject", image, "--package", disc, "--allow-unsigned", "--output", output,
               "--digest", "--format", "json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["images"]
    assert result["output"] == output
    assert result["digests"]["image"] == before == digest(drive / "images/template.vhdx")
    assert result["dism_log"]
    assert sorted(item.name for item in (drive / "images").iterdir()) == [
        "serviced.vhdx", "template.vhdx"
    ]  # fmt: skip
    there = run("verify", f"{host}:D:\\IMAGES\\serv*.vhdx", "--format", "json")
    here = run("verify", drive / "images/serviced.vhdx", "--format", "json")
    verdicts = [json.loads(item.stdout)["images"][0]["verdict"] for item in (there, here)]
    assert verdicts == ["unconfirmed"] * 2


def test_the_host_says_that_it_is_windows(host: str, drive: Path) -> None:
    said = run("host", "check", host, "--path", "D:\\images").stdout
    assert "Microsoft Windows" in said
    assert "D:\\images: NTFS" in said
    assert "there is no such file" in refused(3, "verify", f"{host}:D:\\images\\none.vhdx")


@pytest.mark.usefixtures("writers")
@pytest.mark.parametrize(("action", "code"), [("signal:TERM", 130), ("kill", -signal.SIGKILL)])
@pytest.mark.parametrize("call", ["copy", "sha256#2", "servicing"])
def test_an_interrupted_injection_leaves_nothing(
    drive: Path, disc: Path, lab_directory: Path, action: str, code: int, call: str
) -> None:
    """While it is copied, before the package is added, and before the disk is dismounted."""
    images = drive / "images"
    before = digest(images / "template.vhdx")
    done = subprocess.run(
        [sys.executable, "-m", "imagetool", "inject", "lab:D:\\images\\template.vhdx",
         "--package", disc, "--allow-unsigned", "--output", "lab:D:\\images\\serviced.vhdx"],
        env=os.environ | {"IMAGETOOL_LAB_FAULTS": f"{call}={action}"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr

    def is_clean() -> bool:
        door = find_host(lab_directory)
        mounted = door.status()["disks"] if door is not None else []
        return [item.name for item in images.iterdir()] == ["template.vhdx"] and not mounted

    assert until(is_clean, seconds=60)
    assert digest(images / "template.vhdx") == before
