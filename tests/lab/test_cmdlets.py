"""The emulated cmdlets, asked through the real PowerShell and through Python: the same answers."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagetool.contracts import Host
from imagetool.errors import HostFailed, WrongUsage
from imagetool.host.answers import CmdletFailed
from imagetool.host.frames import encode_frame
from imagetool.lab import open_lab
from imagetool.lab.cmdlet import StreamRecord
from imagetool.lab.cmdlet_facts import cmdlets
from imagetool.lab.configuration import LabConfiguration, MachineOptions
from imagetool.lab.emulated_host import EmulatedHost
from imagetool.lab.faults import DISK_WRITE, parse_faults
from imagetool.lab.host_server import HostServer


@pytest.fixture
def image(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(template, tmp_path / "image.vhdx"))


@pytest.fixture
def lab(lab_engine: str) -> Iterator[Host]:
    with open_lab() as session:
        if lab_engine == "powershell":
            assert session.description.startswith("PowerShell 7")
        else:
            assert session.description == "Python in place of PowerShell"
        yield session


@pytest.mark.parametrize(
    ("cmdlet", "parameters", "error_id"),
    [
        (
            "Set-Disk",
            {"Number": 1, "IsOffline": False, "IsReadOnly": False},
            "AmbiguousParameterSet",
        ),
        ("Add-WindowsPackage", {"Path": "x", "Online": True, "PackagePath": "y"}, "AmbiguousParam"),
        ("Mount-VHD", {"Pth": "x"}, "NamedParameterNotFound"),
        ("Add-WindowsPackage", {"Path": "x"}, "MissingMandatoryParameter"),
        ("Add-WindowsPackage", {"Path": "x", "PackagePath": "y", "LogLevel": "Odd"}, "Validate"),
        ("Get-Disk", {"Number": 77}, "CmdletizationQuery_NotFound_Number,Get-Disk"),
        ("Get-VHD", {"Path": "/none.vhdx"}, "ObjectNotFound"),
    ],
)
def test_what_windows_would_refuse_is_refused(
    lab: Host, cmdlet: str, parameters: dict[str, object], error_id: str
) -> None:
    with pytest.raises(CmdletFailed) as caught:
        lab.invoke(cmdlet, **parameters)
    assert caught.value.error_id.startswith(error_id)


def test_a_disk_comes_up_offline_and_read_only(lab: Host, image: Path) -> None:
    path = str(image)
    (mounted,) = lab.invoke(
        "Mount-VHD",
        Path=path,
        NoDriveLetter=True,
        Passthru=True,
        properties=("DiskNumber", "Attached", "VhdType", "VhdFormat"),
    )
    assert mounted == {
        "DiskNumber": 1,
        "Attached": True,
        "VhdType": "Dynamic",
        "VhdFormat": "VHDX",
    }
    names = ("IsOffline", "IsReadOnly", "OfflineReason", "PartitionStyle")
    assert lab.invoke("Get-Disk", Number=1, properties=names) == [
        {"IsOffline": True, "IsReadOnly": True, "OfflineReason": "Policy", "PartitionStyle": "GPT"}
    ]
    with pytest.raises(CmdletFailed) as caught:
        lab.invoke("Mount-VHD", Path=path)
    assert caught.value.hresult == 0x80070020
    partitions = lab.invoke(
        "Get-Partition", DiskNumber=1, properties=("PartitionNumber", "GptType")
    )
    assert [p["PartitionNumber"] for p in partitions] == [1, 2, 3, 4]
    assert partitions[3]["GptType"] == "{ebd0a0a2-b9e5-4433-87c0-68b6b72699c7}"
    lab.invoke("Dismount-VHD", Path=path)
    assert lab.invoke("Get-VHD", Path=path, properties=("Attached",)) == [{"Attached": False}]
    with pytest.raises(CmdletFailed):
        lab.invoke("Dismount-VHD", Path=path)


def test_an_access_path_needs_an_online_disk_and_an_empty_directory(
    lab: Host, image: Path, tmp_path: Path
) -> None:
    lab.invoke("Mount-VHD", Path=str(image))
    folder = tmp_path / "mount"
    folder.mkdir()
    asked = {"DiskNumber": 1, "PartitionNumber": 4, "AccessPath": str(folder)}
    with pytest.raises(CmdletFailed, match="Invalid Parameter"):
        lab.invoke("Add-PartitionAccessPath", **asked)
    lab.invoke("Set-Disk", Number=1, IsOffline=False)
    (folder / "file").touch()
    with pytest.raises(CmdletFailed, match="Invalid Parameter"):
        lab.invoke("Add-PartitionAccessPath", **asked)
    (folder / "file").unlink()
    lab.invoke("Add-PartitionAccessPath", **asked)
    with pytest.raises(CmdletFailed) as caught:
        lab.invoke("Add-WindowsPackage", Path=str(folder), PackagePath="x.cab")
    assert caught.value.hresult == 0xC1510111  # still read-only
    lab.invoke("Remove-PartitionAccessPath", **asked)
    with pytest.raises(CmdletFailed, match="no Windows installation"):
        lab.invoke("Get-WindowsPackage", Path=str(folder))


def test_the_table_knows_where_it_comes_from() -> None:
    assert {facts.module for facts in cmdlets().values()} == {
        "Hyper-V", "Storage", "DISM", "CimCmdlets"
    }  # fmt: skip


def test_the_door_answers_only_who_knows_the_secret() -> None:
    server = HostServer(EmulatedHost())
    try:
        for secret in ("", "wrong", server.secret):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
                frame = {"secret": secret, "cmdlet": "Get-Disk", "parameters": {"Number": 9}}
                client.sendall(encode_frame(frame))
                answer = client.makefile("rb").read()
            assert bool(answer) == (secret == server.secret)
    finally:
        server.close()


def test_a_caller_that_goes_leaves_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    emulated_host, asked, gone = EmulatedHost(), threading.Event(), threading.Event()

    def call(
        cmdlet: str, parameters: object, report: Callable[[StreamRecord], None]
    ) -> list[object]:
        asked.set()
        gone.wait(10)
        while True:
            report(StreamRecord("progress", "x" * 100_000))

    monkeypatch.setattr(emulated_host, "call", call)
    server = HostServer(emulated_host)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(
            encode_frame({"secret": server.secret, "cmdlet": "Get-Disk", "parameters": {}})
        )
        assert asked.wait(10)
    gone.set()
    with server._cmdlet_lock:  # which the answer holds to its end
        server.close()
    assert capfd.readouterr().err == ""


def test_the_key_to_the_door_is_private(tmp_path: Path) -> None:
    server = HostServer(EmulatedHost())
    server.write_endpoint(tmp_path / "endpoint")
    server.close()
    assert (tmp_path / "endpoint").stat().st_mode & 0o777 == 0o600


def test_any_call_is_no_write_to_a_disk() -> None:
    """How many writes a writer makes differs: a fault at the nth call would meet them at random."""
    faults = parse_faults("*=drop,disk-write#2=kill")
    assert not faults.take_due(DISK_WRITE)
    assert [fault.kind for fault in faults.take_due("Mount-VHD")] == ["drop"]
    assert [fault.kind for fault in faults.take_due(DISK_WRITE)] == ["kill"]


def test_wrong_words_in_the_environment_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongUsage, match="NAME=ACTION"):
        parse_faults("Mount-VHD=soon")
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "perl")
    with pytest.raises(WrongUsage, match="perl"):
        open_lab()
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "powershell")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(HostFailed, match="none in PATH"):
        open_lab()


@pytest.mark.usefixtures("writers")
def test_the_windows_in_a_disk_is_described(template: Path, lab_engine: str) -> None:
    known = ("ImageIndex", "ImageName", "Architecture", "Version", "EditionId")
    with open_lab(EmulatedHost()) as session:
        (found,) = session.invoke(
            "Get-WindowsImage", ImagePath=str(template), Index=1, properties=known
        )
        assert tuple(found[name] for name in known) == (
            1, "Windows Server 2012 R2 Standard", "x64", "6.3.9600.0", "ServerStandard"
        )  # fmt: skip
        with pytest.raises(CmdletFailed):
            session.invoke("Get-WindowsImage", ImagePath=str(template), Index=2)


def test_machines_and_their_disks_are_listed(lab_engine: str) -> None:
    machines = (MachineOptions("web01", "Running", ("/srv/a.vhdx", "/srv/b.vhdx")),
                MachineOptions("db01"))  # fmt: skip
    with open_lab(EmulatedHost(configuration=LabConfiguration(machines=machines))) as session:
        found = session.invoke("Get-VM", properties=("Name", "State"))
        listed = [(item["Name"], item["State"]) for item in found]
        assert listed == [("web01", "Running"), ("db01", "Off")]
        drives = session.invoke("Get-VMHardDiskDrive", VMName="WEB*", properties=("VMName", "Path"))
        assert [item["Path"] for item in drives] == ["/srv/a.vhdx", "/srv/b.vhdx"]
        with pytest.raises(CmdletFailed) as caught:
            session.invoke("Get-VM", Name="none")
        assert caught.value.error_id.startswith("InvalidParameter")
