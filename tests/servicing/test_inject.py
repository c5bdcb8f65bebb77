"""inject: what comes out of it, and that nothing else is left, whatever ends it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures import signing
from fixtures.guests import GuestSpec, cached_guest
from imagetool.contracts import Host
from imagetool.errors import (
    CannotWrite,
    DoesNotApply,
    HostFailed,
    LeftBehind,
    ServicingFailed,
    Unreadable,
)
from imagetool.guest.image import open_image
from imagetool.lab import boot, open_lab
from imagetool.lab.emulated_host import EmulatedHost
from imagetool.lab.faults import parse_faults
from imagetool.package import open_package
from imagetool.package.signature.check import Judgement
from imagetool.servicing.transaction import StepProgress
from imagetool.verdict.verify import Criteria, verify
from imagetool.verdict.windows import Outcome
from tests.program import run
from tests.servicing.injecting import inject

pytestmark = pytest.mark.usefixtures("writers")

IDENTITY = "Microsoft-Hyper-V-Integration-Services-Package-2~31bf3856ad364e35~amd64~~6.3.9600.19456"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def template_stays_as_it_is(template: Path) -> object:
    before = sha256(template)
    yield
    assert sha256(template) == before


def test_a_template_goes_in_and_a_proved_image_comes_out(
    lab_engine: str, template: Path, disc: Path, tmp_path: Path
) -> None:
    target = tmp_path / "serviced 'é' $(x).vhdx"
    steps: list[str] = []
    done = inject(
        template, disc, open_lab, target, on_progress=lambda shown: steps.append(shown.title)
    )
    assert done.package_state == "InstallPending"
    assert done.proof is not None
    assert done.proof.verdict.outcome is Outcome.UNCONFIRMED
    assert done.host_description.startswith(
        "PowerShell" if lab_engine == "powershell" else "Python"
    )
    assert [item.name for item in tmp_path.iterdir()] == [target.name]
    assert len(steps) >= 9
    with open_image(target) as image, open_package(disc) as media:
        result = verify(image, Criteria(media=[media]))
        assert result.verdict.present == media.packages[0].version
        assert not result.verdict.holds
        assert verify(image, Criteria(media=[media], require="installed")).verdict.holds
    boot(target)
    with open_image(target) as image, open_package(disc) as media:
        assert verify(image, Criteria(media=[media])).verdict.outcome is Outcome.CURRENT


def test_foreign_readers_find_every_file_of_the_package(
    oracle: Callable[[str], str], template: Path, disc: Path, tmp_path: Path
) -> None:
    import pyfsntfs
    import pyvhdi

    target = tmp_path / "serviced.vhdx"
    inject(template, disc, open_lab, target)
    disk = pyvhdi.file()
    disk.open(str(target))
    with open_image(target) as image:
        offset = image.partition_table.partitions[3].offset
        size = image.partition_table.partitions[3].size

    class Volume:
        place = 0

        def read(self, count: int) -> bytes:
            data = disk.read_buffer_at_offset(min(count, size - self.place), offset + self.place)
            self.place += len(data)
            return bytes(data)

        def seek(self, place: int, whence: int = 0) -> None:
            self.place = place + (0, self.place, size)[whence]

        def tell(self) -> int:
            return self.place

        def get_size(self) -> int:
            return size

    volume = pyfsntfs.volume()
    volume.open_file_object(Volume())
    with open_package(disc) as media:
        package = media.packages[0]
        for member in package.members():
            if member.name.startswith("update."):
                path = f"\\Windows\\servicing\\Packages\\{IDENTITY}{member.name[-4:]}"
            else:
                folder = "\\Windows\\WinSxS" + ("" if "/" in member.name else "\\Manifests")
                path = f"{folder}\\" + member.name.replace("/", "\\")
            entry = volume.get_file_entry_by_path(path)
            assert entry is not None, path
            assert entry.read_buffer_at_offset(entry.size, 0) == package.read(member.name)


def test_only_what_is_genuine_goes_in(template: Path, disc: Path, tmp_path: Path) -> None:
    def never() -> Host:
        raise AssertionError("a session was opened")

    target = tmp_path / "serviced.vhdx"
    with pytest.raises(DoesNotApply, match="is unsigned, and does not go into an image") as refused:
        inject(template, disc, never, target, allow_unsigned=False)
    assert "--allow-unsigned" in refused.value.hint
    with open_package(disc) as media:
        cabinet = next(item for item in media.packages if "6.2" in item.name and "64" in item.name)
        plain = tmp_path / "plain.cab"
        plain.write_bytes(cabinet.read_cabinet())
    signing.make_authority(tmp_path)
    signed, altered = tmp_path / "signed.cab", tmp_path / "altered.cab"
    signing.sign(tmp_path, plain, signed)
    data = bytearray(signed.read_bytes())
    data[len(plain.read_bytes()) // 2] ^= 1
    altered.write_bytes(data)
    for allowed in (False, True):
        with pytest.raises((DoesNotApply, Unreadable)):
            inject(template, altered, never, target, allow_unsigned=allowed)
    with pytest.raises(DoesNotApply, match=r"is (unsigned|unknown signer)"):
        inject(template, signed, never, target, allow_unsigned=False)
    assert not target.exists()


def test_the_real_package_goes_in_byte_for_byte(
    real_packages: Path, testdata: Path, template: Path, tmp_path: Path
) -> None:
    name = "windows6.2-hypervintegrationservices-x64.cab"
    target = tmp_path / "serviced.vhdx"
    done = inject(template, real_packages / name, open_lab, target, allow_unsigned=False)
    assert done.signature is not None
    assert done.signature.judgement is Judgement.GENUINE
    assert str(done.plan.package.identity).endswith("~6.3.9600.18692")
    lines = (testdata / f"truth/cab/{name}.sha256").read_text("utf-8").splitlines()
    truth = {line[66:].strip().removeprefix("./"): line[:64] for line in lines}
    assert len(truth) == 73
    with open_image(target) as image:
        volume = image.windows().volume
        for member, digest in truth.items():
            if member.startswith("update."):
                path = f"Windows/servicing/Packages/{done.plan.package.identity}{member[-4:]}"
            else:
                folder = "Windows/WinSxS" + ("" if "/" in member else "/Manifests")
                path = f"{folder}/{member}"
            source = volume.lookup(path).open()
            assert hashlib.sha256(source.read_at(0, source.size)).hexdigest() == digest


CMDLETS = [
    "Mount-VHD",
    "Get-Disk",
    "Set-Disk",
    "Get-Partition",
    "Add-PartitionAccessPath",
    "Add-WindowsPackage",
    "Get-WindowsPackage",
]


@pytest.mark.parametrize("cmdlet", CMDLETS)
def test_a_cmdlet_that_fails_leaves_nothing(
    lab_engine: str, template: Path, disc: Path, tmp_path: Path, cmdlet: str
) -> None:
    emulated_hosts: list[EmulatedHost] = []

    def open_session() -> Host:
        emulated_hosts.append(EmulatedHost(parse_faults(f"{cmdlet}=0x800F0922")))
        return open_lab(emulated_hosts[0])

    with pytest.raises(ServicingFailed, match=f"{cmdlet} failed.*as it was") as caught:
        inject(template, disc, open_session, tmp_path / "serviced.vhdx")
    assert caught.value.exit_code == 5
    assert list(tmp_path.iterdir()) == []
    assert emulated_hosts[0].disks == {}


def test_what_cannot_be_taken_back_is_named(template: Path, disc: Path, tmp_path: Path) -> None:
    host = EmulatedHost(parse_faults("Dismount-VHD=0x8007001F"))
    with pytest.raises(LeftBehind, match="left behind: the mounted image") as caught:
        inject(template, disc, lambda: open_lab(host), tmp_path / "serviced.vhdx")
    assert caught.value.exit_code == 6
    (left,) = tmp_path.iterdir()
    assert f"the file {left}" in caught.value.message
    assert [disk.path for disk in host.disks.values()] == [left]
    host.close()


def test_what_can_be_taken_back_later_is_not_left(
    template: Path, disc: Path, tmp_path: Path
) -> None:
    """A directory whose access path cannot be removed is free when the disk is dismounted."""
    host = EmulatedHost(parse_faults("Remove-PartitionAccessPath=0x80070020"))
    with pytest.raises(ServicingFailed, match=r"Remove-PartitionAccessPath failed.*as it was"):
        inject(template, disc, lambda: open_lab(host), tmp_path / "serviced.vhdx")
    assert list(tmp_path.iterdir()) == []
    assert host.disks == {}


class Lying(EmulatedHost):
    """A host that says yes and does nothing, or does something else."""

    def __init__(self, lie: str) -> None:
        super().__init__()
        self.lie = lie

    def call(self, cmdlet: str, parameters: dict[str, object], report: object) -> list:  # type: ignore[type-arg,override]
        if cmdlet == "Add-WindowsPackage" and self.lie == "nothing":
            return []
        records = super().call(cmdlet, parameters, report)  # type: ignore[arg-type]
        if cmdlet == "Dismount-VHD" and self.lie == "changed":
            from imagetool.lab.workers import FileChange, write_files

            path = Path(str(parameters["Path"]))
            with open_image(path) as image:
                partition = image.partition_table.partitions[3]
                store = image.windows().volume.lookup("Windows/WinSxS")
                folder = next(e.name for e in store.entries("amd64_wvmbus.inf"))
            change = FileChange(f"Windows\\WinSxS\\{folder}\\vmbus.sys", b"other bytes")
            write_files(path, partition.offset, partition.size, [change])
        return records


@pytest.mark.parametrize(
    ("lie", "words"),
    [("nothing", "does not list it"), ("changed", "vmbus.sys has other bytes than the package")],
)
def test_success_is_what_is_read_back_not_what_was_said(
    template: Path, disc: Path, tmp_path: Path, lie: str, words: str
) -> None:
    with pytest.raises(ServicingFailed, match=words):
        inject(template, disc, lambda: open_lab(Lying(lie)), tmp_path / "serviced.vhdx")
    assert list(tmp_path.iterdir()) == []


def test_a_package_for_another_system_never_reaches_the_host(
    template: Path, disc: Path, tmp_path: Path
) -> None:
    def never() -> Host:
        raise AssertionError

    other = tmp_path / "other.cab"
    with open_package(disc) as media:
        other.write_bytes(media.packages[1].read_cabinet())
    with pytest.raises(
        DoesNotApply,
        match=r"is for Windows 7, Server 2008 R2[^;]*; this guest is Windows Server 2012 R2",
    ):
        inject(template, other, never, tmp_path / "serviced.vhdx")


def test_an_output_that_cannot_be_is_said_before_the_work(
    lab_engine: str, template: Path, disc: Path, tmp_path: Path
) -> None:
    existing = tmp_path / "existing.vhdx"
    existing.write_bytes(b"mine")
    cases = [
        (existing, "there is a file of that name already"),
        (tmp_path / "none/serviced.vhdx", "there is no such directory"),
        (existing / "serviced.vhdx", "this is a file, no directory|there is no such directory"),
        (tmp_path / ("x" * 300), "cannot be written"),
        (tmp_path / ("x" * 300) / "y", "no such directory|cannot be written"),
    ]
    shown: list[str] = []
    for output, words in cases:
        with pytest.raises(CannotWrite, match=words) as caught:
            inject(template, disc, open_lab, output,
                   on_progress=lambda progress: shown.append(progress.step))  # fmt: skip
        assert caught.value.exit_code == 7
        assert shown == []
    assert existing.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [existing]


def test_a_guest_whose_drivers_do_not_start_never_reaches_the_host(
    oracle: Callable[[str], str], disc: Path, tmp_path: Path
) -> None:
    for name in ("mkntfs", "wimlib-imagex", "hivexregedit", "llvm-rc", "lld-link"):
        oracle(name)

    def never() -> Host:
        raise AssertionError

    image = cached_guest(GuestSpec(starts=(("vmbus", 4),)))
    with pytest.raises(DoesNotApply, match="vmbus does not start at boot: Start is 4") as caught:
        inject(image, disc, never, tmp_path / "serviced.vhdx")
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_host_without_the_modules_is_said_to_be_none(
    engine: str, template: Path, disc: Path, tmp_path: Path
) -> None:
    from imagetool.host.local import open_local

    with pytest.raises(HostFailed, match="has no module Storage") as caught:
        inject(template, disc, lambda: open_local(engine), tmp_path / "serviced.vhdx")
    assert caught.value.exit_code == 4
    assert "every Windows Server has" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_the_host_has_mounted_is_left_alone(
    template: Path, disc: Path, tmp_path: Path
) -> None:
    image = Path(shutil.copyfile(template, tmp_path / "image.vhdx"))
    emulated_host = EmulatedHost()
    emulated_host.call("Mount-VHD", {"Path": str(image)}, lambda said: None)
    with pytest.raises(HostFailed, match="has this image mounted"):
        inject(image, disc, lambda: open_lab(emulated_host), tmp_path / "serviced.vhdx")
    emulated_host.close()
    assert list(tmp_path.iterdir()) == [image]


@pytest.mark.parametrize("code", [0x80070070, 0x1C])
def test_a_full_disk_is_said_to_be_full(
    template: Path, disc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    from imagetool.host.answers import CmdletFailed
    from imagetool.host.files import FileOperations

    def full(self: FileOperations, source: str, target: str, *_: object) -> None:
        Path(target).write_bytes(b"begun")
        raise CmdletFailed("copy", "no space", code, "", "")

    monkeypatch.setattr(FileOperations, "copy", full)
    with pytest.raises(CannotWrite, match="is full"):
        inject(template, disc, open_lab, tmp_path / "serviced.vhdx")
    assert list(tmp_path.iterdir()) == []


def test_servicing_twice_is_nothing_to_do(template: Path, disc: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.vhdx"
    inject(template, disc, open_lab, first)
    again = inject(first, disc, open_lab, tmp_path / "second.vhdx")
    assert again.proof is None
    assert again.plan.nothing_to_do
    assert not (tmp_path / "second.vhdx").exists()


@pytest.mark.parametrize(
    ("step", "number"),
    [
        ("copy the image", signal.SIGINT),
        ("mount the copy", signal.SIGINT),
        ("add Micro", signal.SIGINT),
        ("add Micro", signal.SIGTERM),
        ("dismount", signal.SIGTERM),
        ("prove", signal.SIGINT),
    ],
)
def test_an_interruption_leaves_nothing(
    lab_engine: str, template: Path, disc: Path, tmp_path: Path, step: str, number: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "imagetool", "inject", template, "--package", disc]
        + ["--allow-unsigned", "--host", "lab", "--output", tmp_path / "serviced.vhdx"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if step in line:
            process.send_signal(number)
            break
    seen += process.stderr.read()
    process.wait(timeout=60)
    process.stderr.close()
    assert "Traceback" not in seen
    if process.returncode == 0:  # too late: the result had its name already
        assert "give the result its name" in seen
        assert [item.name for item in tmp_path.iterdir()] == ["serviced.vhdx"]
        return
    assert process.returncode == 130, seen
    assert list(tmp_path.iterdir()) == []


def test_an_engine_that_is_killed_leaves_the_template_and_says_so(
    engine: str, template: Path, disc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(engine).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "powershell")
    sessions: list[Host] = []

    def open_session() -> Host:
        sessions.append(open_lab())
        return sessions[0]

    def kill(shown: StepProgress) -> None:
        if shown.step == "add" and shown.event is None:
            sessions[0]._transport._process.kill()  # type: ignore[attr-defined]

    with pytest.raises((HostFailed, LeftBehind)) as caught:
        inject(template, disc, open_session, tmp_path / "serviced.vhdx", on_progress=kill)
    assert caught.value.exit_code in (4, 6)
    assert "PowerShell ended" in str(caught.value)
    assert not (tmp_path / "serviced.vhdx").exists()


def test_the_demo_runs_to_its_end(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("PATH", f"{Path(engine).parent}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run(
        [sys.executable, "-m", "fixtures.demo", "--folder", tmp_path / "demo"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert "serviced by PowerShell 7" in done.stdout
    assert "outdated, injected, unconfirmed, booted, current" in done.stdout
    folder = tmp_path / "demo"
    assert sorted(item.name for item in folder.iterdir()) == [
        "plan.json",
        "serviced.vhdx",
        "template.vhdx",
        "vmguest.iso",
    ]
    shown = subprocess.run(
        [sys.executable, "-m", "imagetool", "verify", "serviced.vhdx"]
        + ["--accept-rehearsal", "--format", "json"],
        cwd=folder,
        capture_output=True,
        check=True,
    )
    assert json.loads(shown.stdout)["images"][0]["verdict"] == "current"
    again = run(
        *("inject", folder / "serviced.vhdx", "--package", folder / "vmguest.iso"),
        *("--host", "lab", "--allow-unsigned", "--output", folder / "new.vhdx"),
        *("--format", "json"),
    )
    told = json.loads(again.stdout)
    assert told["schema"] == "imagetool/inject/1"
    assert [told["images"][0][key] for key in ("outcome", "output", "proof")] == [
        "nothing to do", None, None,
    ]  # fmt: skip


def test_the_demo_takes_a_real_cabinet(
    real_packages: Path, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).resolve().parents[2]
    monkeypatch.setenv("PATH", f"{Path(engine).parent}{os.pathsep}{os.environ['PATH']}")
    package = real_packages / "windows6.2-hypervintegrationservices-x64.cab"
    done = subprocess.run(
        [sys.executable, "-m", "fixtures.demo", "--package", package]
        + ["--folder", tmp_path / "demo"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert "\n6.3.9600.18692\n" in done.stdout
