"""The emulated host as a process of its own: what outlives a session, and what does not."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagetool.errors import CannotOpen, HostFailed
from imagetool.host.answers import CmdletFailed
from imagetool.host.files import FileOperations
from imagetool.host.transport import read_script
from imagetool.lab import lasting_host, open_lab
from imagetool.lab.cmdlet import StreamRecord
from imagetool.lab.cmdlet_facts import cmdlets
from imagetool.lab.cmdlets import implementations
from imagetool.lab.emulated_host import EmulatedHost
from imagetool.lab.host_client import Door, DoorSession
from imagetool.lab.host_server import HostServer
from imagetool.lab.lasting_host import find_host, reset_host, state_directory
from imagetool.lab.locks import is_locked, lock_file
from imagetool.lab.workers import write_files
from tests.program import run
from tests.waiting import until

MOUNTED_ON = {"properties": ("DiskNumber", "Attached")}


@pytest.fixture
def image(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(template, tmp_path / "image.vhdx"))


def process_of(directory: Path) -> int:
    door = find_host(directory)
    assert door is not None
    return int(str(door.status()["process"]))


def silent(record: StreamRecord) -> None:
    return None


def test_the_cmdlets_are_listed_once() -> None:
    """The script's list, the facts and the implementations name the same; no stale name stays."""
    assert set(implementations()) == set(cmdlets())
    text = read_script().decode()
    listed = re.search(r"\$allowed = @\((.*?)\n\)", text, re.DOTALL)
    assert listed is not None
    allowed = set(re.findall(r"'([A-Za-z]+-[A-Za-z]+)'", listed[1]))
    assert set(cmdlets()) - allowed == {"Get-CimInstance"}  # which the script asks itself
    assert allowed - set(cmdlets()) == {
        "Get-VMHost", "Get-VMIntegrationService",
        "Enable-VMIntegrationService", "Disable-VMIntegrationService",
    }  # fmt: skip  # asked of real hosts alone


def test_sessions_share_one_host_and_end_what_they_mounted(
    lab_engine: str, image: Path, tmp_path: Path, lab_directory: Path
) -> None:
    other = Path(shutil.copyfile(image, tmp_path / "other.vhdx"))
    with open_lab() as first:
        first.invoke("Mount-VHD", Path=str(image))
        with open_lab() as second:
            (found,) = second.invoke("Get-VHD", Path=str(image), **MOUNTED_ON)  # type: ignore[arg-type]  # a mapping of options
            assert found == {"DiskNumber": 1, "Attached": True}
            second.invoke("Mount-VHD", Path=str(other))
            assert FileOperations(second).in_use(str(image))
        assert [disk["path"] for disk in disks(lab_directory)] == [str(image)]
        with open_lab() as third:
            third.invoke("Dismount-VHD", Path=str(image))
            assert not FileOperations(third).in_use(str(image))


def disks(directory: Path) -> list[dict[str, object]]:
    door = find_host(directory)
    found = door.status()["disks"] if door is not None else []
    assert isinstance(found, list)
    return found


PROGRAM = """
import os, sys
from imagetool.host.files import FileOperations
from imagetool.lab import open_lab
host = open_lab()
host.invoke("Mount-VHD", Path=sys.argv[1])
files = FileOperations(host)
files.own(sys.argv[2])
files.create(sys.argv[2])
script = host.hello["process"]
print(script, flush=True)
if sys.argv[3] == "with the script":
    os.kill(script, 9)
os.kill(os.getpid(), 9)
"""


def killed_client(image: Path, owned: Path, what: str = "alone") -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, image, owned, what],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_killed_client_leaves_what_its_script_cleans_up(
    lab_engine: str, image: Path, tmp_path: Path, lab_directory: Path
) -> None:
    killed_client(image, tmp_path / "owned")
    assert until(lambda: not disks(lab_directory) and not (tmp_path / "owned").exists())
    assert until(lambda: not is_locked(image))


def test_a_script_that_is_killed_too_leaves_the_mount(
    engine: str,
    image: Path,
    tmp_path: Path,
    lab_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", f"{Path(engine).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "powershell")
    killed_client(image, tmp_path / "owned", "with the script")
    assert [disk["path"] for disk in disks(lab_directory)] == [str(image)]
    assert is_locked(image)
    assert (tmp_path / "owned").exists()
    told = run("lab", "status")
    assert re.search(r"an emulated host runs: process \d+, 0 sessions", told.stdout)
    assert f"disk 1  offline    {image}" in told.stdout
    assert f"dismounted disk 1  offline    {image}" in run("lab", "reset").stdout
    assert not is_locked(image)
    assert run("lab", "status").stdout == "no emulated host runs\n"
    assert run("lab", "reset").stdout == "no emulated host runs\n"


def test_a_host_that_is_killed_goes_on_with_its_mounts(
    lab_engine: str, image: Path, lab_directory: Path
) -> None:
    with open_lab() as host:
        host.invoke("Mount-VHD", Path=str(image))
        host.invoke("Set-Disk", Number=1, IsOffline=False)
        before = disks(lab_directory)
        os.kill(process_of(lab_directory), signal.SIGKILL)
        with pytest.raises(HostFailed):
            host.invoke("Get-Disk", Number=1)
        with open_lab() as again:
            assert disks(lab_directory) == before
            assert is_locked(image)
            again.invoke("Dismount-VHD", Path=str(image))
            assert not is_locked(image)


def test_many_that_start_at_once_start_one(lab_directory: Path) -> None:
    program = (
        "from imagetool.lab import open_lab\n"
        "from imagetool.lab.lasting_host import find_host, state_directory\n"
        "import sys\n"
        "with open_lab(engine='python'):\n"
        "    print(find_host(state_directory()).status()['process'], flush=True)\n"
        "    sys.stdin.read()\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(5)
    ]
    processes = set()
    for process in started:
        assert process.stdout is not None
        processes.add(process.stdout.readline())
    for process in started:
        process.communicate(timeout=30)
    assert len(processes) == 1


def test_what_an_earlier_process_left_is_no_obstacle(lab_directory: Path) -> None:
    directory = state_directory()
    for text in ("", "no\n", "1\nsecret\n", "70000\nsecret\n"):
        (directory / "endpoint").write_text(text, "ascii")
        (directory / "state.json").write_text("{", "ascii")
        with open_lab(engine="python") as host:
            assert host.invoke("Get-Disk") == []
        reset_host(directory)


def test_a_directory_that_others_may_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    monkeypatch.setenv("IMAGETOOL_LAB", str(tmp_path / "open"))
    with pytest.raises(CannotOpen, match="others may write here"):
        open_lab()
    (tmp_path / "open").chmod(0o700)
    (tmp_path / "link").symlink_to(tmp_path / "open")
    monkeypatch.setenv("IMAGETOOL_LAB", str(tmp_path / "link"))
    with pytest.raises(CannotOpen, match="others may write here"):
        open_lab()


def test_the_key_to_the_host_is_private(lab_directory: Path) -> None:
    with open_lab(engine="python"):
        assert (lab_directory / "endpoint").stat().st_mode & 0o777 == 0o600
        assert lab_directory.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def server() -> Iterator[HostServer]:
    opened = HostServer(EmulatedHost())
    yield opened
    opened.close()


def test_a_host_is_idle_without_sessions_and_mounts(server: HostServer, image: Path) -> None:
    idle = threading.Event()

    def wait() -> None:
        server.wait_until_idle(0.01)
        idle.set()

    door = Door(server.port, server.secret)
    session = DoorSession(door)
    threading.Thread(target=wait, daemon=True).start()
    session.call("Mount-VHD", {"Path": str(image)}, silent)
    session.close()  # it says that it has cleaned up: the mount stays
    assert until(lambda: not server.session_count)
    assert not idle.wait(0.1)
    other = DoorSession(door)
    other.call("Dismount-VHD", {"Path": str(image)}, silent)
    other.close()
    assert idle.wait(20)
    with pytest.raises(HostFailed, match="has ended"):
        DoorSession(door)  # no session begins any more


def test_a_relative_path_is_the_caller_s(
    server: HostServer, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(image.parent)
    session = DoorSession(Door(server.port, server.secret))
    monkeypatch.chdir("/")
    with pytest.raises(Exception, match="was not found"):
        session.call("Get-VHD", {"Path": "image.vhdx"}, silent)
    monkeypatch.chdir(image.parent)
    assert (
        session.call("Get-VHD", {"Path": "image.vhdx"}, silent)[0].properties["Attached"] is False
    )
    session.close()


def test_a_lock_is_held_by_whoever_inherited_it(image: Path) -> None:
    """So an orphaned writer keeps a file in use."""
    lock = lock_file(image)
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE, pass_fds=(lock,),
    )  # fmt: skip
    os.close(lock)
    assert is_locked(image)
    child.communicate()
    assert not is_locked(image)


@pytest.mark.usefixtures("writers")
def test_a_writer_takes_no_file_that_is_in_use(image: Path) -> None:
    lock = lock_file(image)
    with pytest.raises(Exception, match="in use, or mounted"):
        write_files(image, 0, 1, [])
    os.close(lock)


def test_what_is_mounted_is_in_use_as_windows_says(lab_engine: str, image: Path) -> None:
    with open_lab() as host:
        files = FileOperations(host)
        assert not files.in_use(str(image))
        host.invoke("Mount-VHD", Path=str(image))
        assert files.in_use(str(image))
        with pytest.raises(CmdletFailed, match="being used by another process"):
            files.copy(str(image), str(image.with_name("copy.vhdx")))
        with pytest.raises(CmdletFailed, match="being used by another process"):
            files.sha256(str(image))
        with pytest.raises(CmdletFailed, match="being used by another process"):
            host.operate("open", file=1, path=str(image), ranges=[1, 0, 8])
        host.operate("commit")
    with open_lab() as host:  # told to leave it mounted, the session has
        (found,) = host.invoke("Get-VHD", Path=str(image), properties=("Attached",))
        assert found == {"Attached": True}


def test_two_copies_of_one_disk_collide(lab_engine: str, image: Path, tmp_path: Path) -> None:
    other = Path(shutil.copyfile(image, tmp_path / "other.vhdx"))
    reasons = []
    with open_lab() as host:
        for number, path in enumerate((image, other), 1):
            host.invoke("Mount-VHD", Path=str(path))
            reasons += host.invoke("Get-Disk", Number=number, properties=("OfflineReason",))
            host.invoke("Set-Disk", Number=number, IsOffline=False)
    assert reasons == [{"OfflineReason": "Policy"}, {"OfflineReason": "Collision"}]


@pytest.mark.usefixtures("writers")
def test_a_host_that_hangs_is_ended(
    image: Path, disc: Path, lab_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs in a write to the image, with its writer: both go, and so does the lock."""
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "python")
    monkeypatch.setattr(lasting_host, "_RESTART_SECONDS", 0.5)
    process = subprocess.Popen(
        [sys.executable, "-m", "imagetool", "inject", image, "--package", disc]
        + ["--allow-unsigned", "--host", "lab", "--output", tmp_path / "serviced.vhdx"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"IMAGETOOL_LAB_FAULTS": "disk-write#3=hang"},
    )

    def disks() -> object:
        door = find_host(lab_directory)
        return door.status()["disks"] if door is not None else []

    assert until(disks)
    (copy,) = (item for item in tmp_path.glob("it-*.vhdx"))
    written = copy.stat().st_mtime_ns
    assert until(lambda: copy.stat().st_mtime_ns != written)
    status = reset_host(lab_directory)
    assert status is not None
    assert process.wait(timeout=30) in (4, 5)
    assert not list(tmp_path.glob("it-*"))
    assert not is_locked(image)
    door = find_host(lab_directory)  # the client has undone through another one
    assert door is None or door.status()["process"] != status["process"]
