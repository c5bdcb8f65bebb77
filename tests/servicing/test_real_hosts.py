"""What reports say a real host demands, on an emulated one that is configured to be so.

Devices that come late, files that are let go of late, processes of DISM that outlive their cmdlet,
hosts without Hyper-V, files that somebody has open, policies.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from imagetool.contracts import Event, FileState, Host
from imagetool.errors import CannotWrite, HostFailed, ImagetoolError, LeftBehind, ServicingFailed
from imagetool.host.answers import CmdletFailed
from imagetool.host.files import FileOperations
from imagetool.host.patience import NO_PATIENCE, Patience
from imagetool.lab import open_lab, stand_in
from imagetool.lab.cmdlet import CmdletResult, ReportCallback
from imagetool.lab.configuration import (
    DirectoryOptions,
    HostOptions,
    LabConfiguration,
    MachineOptions,
)
from imagetool.lab.disks.making import convert_disk
from imagetool.lab.disks.writable import WritableDisk
from imagetool.lab.emulated_host import EmulatedHost
from imagetool.lab.faults import Fault, FaultMatcher, FaultyHost, parse_faults
from imagetool.servicing.preconditions import check_output, older_dism
from imagetool.servicing.transaction import StepProgress
from tests.servicing.injecting import inject, prepare

pytestmark = pytest.mark.usefixtures("writers")

SOON = Patience(5.0, 5.0)


class Noting(EmulatedHost):
    """A host that notes the cmdlets that it is asked for, with their parameters."""

    def __init__(self, host: HostOptions | None = None, **others: object) -> None:
        super().__init__(configuration=LabConfiguration(host or HostOptions(), **others))  # type: ignore[arg-type]  # its tables
        self.calls: list[tuple[str, dict[str, object]]] = []

    def call(
        self, cmdlet: str, parameters: dict[str, object], report: ReportCallback
    ) -> list[CmdletResult]:
        """As EmulatedHost.call."""
        self.calls.append((cmdlet, dict(parameters)))
        return super().call(cmdlet, parameters, report)

    @property
    def names(self) -> list[str]:
        """The cmdlets, one behind the other."""
        return [name for name, _ in self.calls]


class Job:
    """An injection into a copy of the template on one host."""

    def __init__(self, template: Path, disc: Path, folder: Path) -> None:
        self.template, self.disc, self.folder = template, disc, folder
        self.output = folder / "serviced.vhdx"
        self.waits: list[str] = []

    def run(self, host: EmulatedHost, patience: Patience = SOON) -> None:
        """Inject; what is waited for is noted."""

        def note(progress: StepProgress) -> None:
            if progress.event is not None and progress.event.kind == "waiting":
                self.waits.append(progress.event.text)

        inject(
            self.template, self.disc, lambda: open_lab(host), self.output,
            patience=patience, on_progress=note,
        )  # fmt: skip

    def check_it_is_done(self) -> None:
        """The output is there, and nothing else."""
        assert [item.name for item in self.folder.iterdir()] == ["serviced.vhdx"]

    def check_nothing_is_left(self, host: EmulatedHost) -> None:
        """As before: no file, no mount."""
        assert list(self.folder.iterdir()) == []
        assert host.disks == {}


@pytest.fixture
def job(template: Path, disc: Path, tmp_path: Path) -> Job:
    return Job(template, disc, tmp_path)


def test_devices_that_come_late_are_waited_for(job: Job, lab_engine: str) -> None:
    host = Noting(HostOptions(disks_late=2))
    job.run(host)
    job.check_it_is_done()
    assert [text.split(",")[0] for text in job.waits][:2] == [
        "waiting for the number of the disk", "waiting for the disk"
    ]  # fmt: skip
    assert "waiting for the partitions of the disk, up to 5 s" in job.waits


def test_a_device_that_never_comes_is_no_endless_wait(job: Job) -> None:
    host = Noting(HostOptions(disks_late=3000))
    with pytest.raises(HostFailed, match=r"shows no disk for the mounted image.*as it was"):
        job.run(host, Patience(0.3, 5.0))
    job.check_nothing_is_left(host)


def test_files_that_are_let_go_of_late_are_waited_for(job: Job, lab_engine: str) -> None:
    host = Noting(HostOptions(files_late=0.4))
    job.run(host)
    job.check_it_is_done()
    assert job.waits == ["waiting for the file to be let go of, up to 5 s"]


def test_a_file_that_is_never_let_go_of_is_named(job: Job) -> None:
    host = Noting(HostOptions(files_late=3.0))
    with pytest.raises(LeftBehind, match="the host still holds the file") as caught:
        job.run(host, Patience(0.2, 0.2))
    (left,) = job.folder.iterdir()
    assert str(left) in caught.value.message


def test_no_disk_is_torn_from_a_process_of_dism(job: Job, lab_engine: str) -> None:
    host = Noting(HostOptions(dism_lingers=3))
    job.run(host)
    job.check_it_is_done()
    assert job.waits == ["waiting for DISM to end, up to 5 s"]
    asked = [index for index, name in enumerate(host.names) if name == "Get-CimInstance"]
    assert len(asked) == 5
    removed, dismounted = (
        host.names.index(name) for name in ("Remove-PartitionAccessPath", "Dismount-VHD")
    )
    assert asked[3] < removed < asked[4] < dismounted


def test_a_disk_stays_mounted_while_a_process_of_dism_stays(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even to clean up: DISM would go on with the host's own registry."""
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "python")
    monkeypatch.setattr(stand_in, "_SERVICING_SECONDS", 0.1)
    host = Noting(HostOptions(dism_lingers=1000))
    with pytest.raises(LeftBehind, match="a process of DISM still works on the mounted disk"):
        job.run(host, Patience(0.2, 0.2))
    assert "Dismount-VHD" not in host.names
    host.dismount_all()


@pytest.mark.parametrize("failure", ["", "Add-WindowsPackage=0x800F0922"])
def test_hives_are_closed_while_their_volume_is_there(job: Job, failure: str) -> None:
    """Those that DISM has left loaded; by the names of files in the mount directory."""
    host, seen = EmulatedHost(parse_faults(failure)), []

    def look() -> None:
        (disk,) = host.disks.values()
        seen.append([path for paths in disk.access_paths.values() for path in paths])

    def opened() -> Host:
        return FaultyHost(open_lab(host), FaultMatcher([Fault("call", "close-hives", action=look)]))

    with pytest.raises(ServicingFailed) if failure else nullcontext():
        inject(job.template, job.disc, opened, job.output, patience=SOON)
    ((mounted,),) = seen
    assert mounted.endswith("/m")


def test_every_cmdlet_of_dism_is_told_where_to_write(job: Job, lab_engine: str) -> None:
    host = Noting()
    job.run(host)
    asked = [given for name, given in host.calls if name.endswith("-WindowsPackage")]
    assert len(asked) == 3  # probed, added, read back
    for given in asked:
        directory = Path(str(given["Path"])).parent
        assert given["ScratchDirectory"] == str(directory / "s")
        assert given["LogPath"] == str(directory / "dism.log")
    assert not directory.exists()


def test_a_host_without_hyper_v_mounts_a_disk_image(job: Job, lab_engine: str) -> None:
    host = Noting(HostOptions(hyper_v=False))
    job.run(host)
    job.check_it_is_done()
    assert {"Mount-DiskImage", "Get-DiskImage", "Dismount-DiskImage"} <= set(host.names)
    assert not [name for name in host.names if name.endswith("-VHD")]


def test_a_disk_that_policy_keeps_read_only_is_explained(job: Job) -> None:
    host = Noting(HostOptions(deny_write_access=True))
    with pytest.raises(ServicingFailed, match=r"0x80070013.*as it was") as caught:
        job.run(host)
    assert "FDVDenyWriteAccess" in caught.value.hint
    job.check_nothing_is_left(host)


def test_a_compressed_directory_is_explained(job: Job) -> None:
    host = Noting(directories=(DirectoryOptions(str(job.folder), attributes=("compressed",)),))
    with pytest.raises(ServicingFailed, match=r"0xC03A001A.*as it was"):
        job.run(host)
    job.check_nothing_is_left(host)


@pytest.mark.parametrize("attributes", [0x200, 0x800, 0x4000])
def test_attributes_are_asked_for_before_the_work(
    job: Job, monkeypatch: pytest.MonkeyPatch, attributes: int
) -> None:
    """Of the directory before the copy, and of the copy before it is mounted."""
    prepared, stat = (
        prepare(job.template, job.disc, job.output, allow_unsigned=True),
        FileOperations.stat,
    )

    def of_directories(files: FileOperations, path: str) -> FileState:
        found = stat(files, path)
        return found._replace(attributes=attributes) if found.is_directory else found

    def of_copies(files: FileOperations, path: str) -> FileState:
        found = stat(files, path)
        return found._replace(attributes=attributes) if "/it-" in path else found

    monkeypatch.setattr(FileOperations, "stat", of_directories)
    with open_lab(EmulatedHost()) as host, pytest.raises(CannotWrite, match="mounts no such image"):
        check_output(host, prepared.plan)
    monkeypatch.setattr(FileOperations, "stat", of_copies)
    noting = Noting()
    with pytest.raises(CannotWrite, match=r"0xC03A001A.*as it was"):
        job.run(noting)
    assert "Mount-VHD" not in noting.names
    job.check_nothing_is_left(noting)


@pytest.mark.parametrize("kind", ["refs", "csv", "share"])
def test_an_access_path_needs_a_local_ntfs(job: Job, kind: str) -> None:
    host = Noting(
        directories=(DirectoryOptions("/tmp", kind=kind), DirectoryOptions(str(job.folder)))
    )
    with pytest.raises(ServicingFailed, match=r"Add-PartitionAccessPath failed.*as it was"):
        job.run(host)
    job.check_nothing_is_left(host)


def test_who_has_the_image_open_is_named(
    job: Job, tmp_path_factory: pytest.TempPathFactory
) -> None:
    held = tmp_path_factory.mktemp("machine") / "web01.vhdx"
    shutil.copyfile(job.template, held)
    for state, words in (("Running", "the virtual machine web01 has this image open"), ("Off", "")):
        host = Noting(machines=(MachineOptions("web01", state, (str(held),)),))
        begun = Job(held, job.disc, job.folder)
        if words:
            with pytest.raises(HostFailed, match=words):
                begun.run(host)
            job.check_nothing_is_left(host)
        else:
            begun.run(host)
            job.check_it_is_done()


def test_an_access_path_goes_before_its_disk_also_at_the_end(
    job: Job, lab_engine: str, template: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("mounted")
    image = Path(shutil.copyfile(template, folder / "image.vhdx"))
    host = Noting()
    with open_lab(host) as session:
        session.invoke("Mount-VHD", Path=str(image))
        session.invoke("Set-Disk", Number=1, IsOffline=False)
        for name in ("kept", "taken"):
            (folder / name).mkdir()
            session.invoke("Add-PartitionAccessPath", DiskNumber=1, PartitionNumber=4,
                           AccessPath=str(folder / name))  # fmt: skip
        session.invoke("Remove-PartitionAccessPath", DiskNumber=1, PartitionNumber=4,
                       AccessPath=str(folder / "taken"))  # fmt: skip
        host.calls.clear()
    undone = [call for call in host.calls if call[0] != "Get-CimInstance"]
    assert [name for name, _ in undone] == ["Remove-PartitionAccessPath", "Dismount-VHD"]
    assert undone[0][1]["AccessPath"] == str(folder / "kept")


@pytest.fixture
def session(lab_engine: str) -> Iterator[Host]:
    with open_lab(EmulatedHost()) as opened:
        yield opened


def test_a_mount_point_is_removed_and_never_what_is_behind_it(
    session: Host, tmp_path: Path
) -> None:
    guest, own = tmp_path / "guest", tmp_path / "it-01234567"
    (guest / "Windows").mkdir(parents=True)
    (guest / "file").touch()
    own.mkdir()
    files = FileOperations(session)
    for target in (guest, tmp_path / "gone"):  # a live one, and one whose disk has gone
        (own / "m").symlink_to(target)
        with pytest.raises(CmdletFailed):
            files.remove_directory(str(own / "m"))
        assert (own / "m").is_symlink()
        files.remove_directory(str(own / "m"), own=True)
        assert not (own / "m").is_symlink()
    (own / "s" / "deep").mkdir(parents=True)
    (own / "s" / "deep" / "file").touch()
    (own / "s" / "link").symlink_to(guest)
    files.remove_tree(str(own / "s"))
    files.remove_tree(str(own / "s"))
    assert list(own.iterdir()) == []
    assert sorted(item.name for item in guest.iterdir()) == ["Windows", "file"]
    (own / "s").symlink_to(guest)
    files.remove_tree(str(own / "s"))
    assert (guest / "file").exists()
    with pytest.raises(CmdletFailed, match="not in a directory of imagetool's"):
        files.remove_tree(str(guest / "Windows"))
    assert (guest / "Windows").exists()


def test_a_private_directory_is_made_private(
    engine: str, oracle: Callable[[str], str], tmp_path: Path
) -> None:
    """Not made, and then made private: in between others could open it."""
    trace, private = tmp_path / "trace", tmp_path / "private"
    script = (
        "from imagetool.host.local import open_local\n"
        "import sys\n"
        "with open_local(sys.argv[1]) as session:\n"
        "    session.files.make_private_directory(sys.argv[2])\n"
    )
    subprocess.run(
        [oracle("strace"), "-f", "-qq", "-e", "trace=mkdir,mkdirat,chmod,fchmodat", "-o", trace,
         sys.executable, "-c", script, engine, private],
        check=True, env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    calls = [line for line in trace.read_text().splitlines() if f'"{private}"' in line]
    assert len(calls) == 1
    assert "0700" in calls[0]


def test_a_disk_is_known_by_what_its_guest_sees(job: Job) -> None:
    """Not by the VirtualDiskId of its file: no document promises that a host keeps it."""
    from imagetool.servicing.plan import DiskIdentity, read_disk_identity

    prepared = prepare(job.template, job.disc, job.output, allow_unsigned=True)
    disk = prepared.plan.image.disk
    payload = prepared.payload
    done = job.folder / "done.vhdx"
    inject(job.template, job.disc, lambda: open_lab(EmulatedHost()), done)
    from imagetool.guest.image import open_image

    def expect(identity: DiskIdentity) -> None:
        plan = prepared.plan
        changed = type(plan)(*plan._replace(image=plan.image._replace(disk=identity)))
        with open_image(done) as image:
            assert read_disk_identity(image) == disk
            payload.expect(image, changed)

    expect(disk._replace(disk_id=str(uuid.uuid4())))
    for other in (disk._replace(table_id=str(uuid.uuid4())),
                  disk._replace(partition_ids=disk.partition_ids[1:])):  # fmt: skip
        with pytest.raises(ServicingFailed, match="identifiers changed"):
            expect(other)


class Facts:
    """A host that says of itself which DISM it has."""

    def __init__(self, dism: object) -> None:
        self.dism = dism

    def operate(self, operation: str) -> dict[str, object]:
        """The facts."""
        return {"dism": self.dism}


@pytest.mark.parametrize(
    ("dism", "warned"),
    [("6.2.9200.16384", True), ("6.3.9600.17031", False), ("10.0.20348.1", False),
     (None, False), ("", False), ("odd", False)],
)  # fmt: skip
def test_an_older_dism_is_a_warning(job: Job, dism: object, warned: bool) -> None:
    plan = prepare(job.template, job.disc, job.output, allow_unsigned=True).plan
    text = older_dism(Facts(dism), plan)  # type: ignore[arg-type]  # a double
    assert bool(text) == warned
    if warned:
        assert text.startswith("the host's DISM is of Windows 6.2.9200, and the guest of 6.3.9600")


def test_a_dism_that_lists_no_packages_adds_none(job: Job) -> None:
    host = Noting()
    host.faults = parse_faults("Get-WindowsPackage#1=0x80004001")
    with pytest.raises(ServicingFailed, match=r"DISM cannot service the Windows.*as it was"):
        job.run(host)
    assert "Add-WindowsPackage" not in host.names
    job.check_nothing_is_left(host)


def failing(code: int, error_id: str = "") -> CmdletFailed:
    return CmdletFailed("Get-Disk", "failed", code, "", error_id)


def test_only_what_means_not_yet_is_asked_again() -> None:
    events: list[Event] = []
    patience = Patience(2.0, 2.0, events.append)
    for ask_again, late in (
        (patience.for_device, failing(0, "CmdletizationQuery_NotFound_Number,Get-Disk")),
        (patience.for_file, failing(0x80070020)),
        (patience.for_file, failing(0, "ObjectInUse,Microsoft.Vhd.PowerShell.Cmdlets.DismountVhd")),
    ):
        answers: list[object] = [late, late, None, 7]

        def ask(answers: list[object] = answers) -> object:
            answer = answers.pop(0)
            if isinstance(answer, ImagetoolError):
                raise answer
            return answer

        events.clear()
        assert ask_again("it", ask) == 7
        assert [event.text for event in events] == ["waiting for it, up to 2 s"]
        for other in (failing(0x80070005), failing(0, "InvalidParameter")):
            answers[:] = [other, 7]
            with pytest.raises(CmdletFailed):
                ask_again("it", ask)
            assert answers == [7]  # at once
    assert NO_PATIENCE.for_file("it", lambda: None) is None


def test_a_colliding_disk_that_is_brought_online_is_another(
    template: Path, tmp_path: Path, lab_engine: str
) -> None:
    """Which is why imagetool never does it: the guest would no longer find its disk."""
    first, second = (Path(shutil.copyfile(template, tmp_path / f"{n}.vhdx")) for n in (1, 2))
    with open_lab(EmulatedHost()) as session:
        for number, image in ((1, first), (2, second)):
            session.invoke("Mount-VHD", Path=str(image))
            found = session.invoke("Get-Disk", Number=number, properties=("Guid", "OfflineReason"))
            before = found[0]
            assert before["OfflineReason"] == ("Policy" if number == 1 else "Collision")
            session.invoke("Set-Disk", Number=number, IsOffline=False)
        (after,) = session.invoke("Get-Disk", Number=2, properties=("Guid", "OfflineReason"))
        assert after["Guid"] != before["Guid"]
    assert first.read_bytes() == template.read_bytes()
    with WritableDisk(second) as disk:
        assert disk.read_at(512, 8) == b"EFI PART"


def test_a_vhd_is_serviced_too(
    disc: Path, template: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    image = tmp_path_factory.mktemp("vhd") / "template.vhd"
    convert_disk(template, image)
    job = Job(image, disc, tmp_path)
    job.output = tmp_path / "serviced.vhd"
    before = image.read_bytes()
    job.run(EmulatedHost())
    assert [item.name for item in tmp_path.iterdir()] == ["serviced.vhd"]
    assert image.read_bytes() == before
