"""An injection is ended at exactly one of its calls, and something happens at exactly that call.

Whatever ends it, the template is byte-identical and nothing is left: the client undoes, or where it
is killed, the script, or where the host's process is killed, the client by another session.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from imagetool.contracts import Host, Result
from imagetool.errors import CannotWrite, HostFailed, ImagetoolError
from imagetool.lab import native_libraries, open_lab
from imagetool.lab.emulated_host import EmulatedHost
from imagetool.lab.faults import Fault, FaultMatcher, FaultyHost
from imagetool.lab.lasting_host import find_host
from imagetool.lab.locks import is_locked
from tests.program import run
from tests.servicing.injecting import inject
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("writers")

CALLS = 128
"""At least as many calls as an injection makes: faults beyond its end do not happen."""


class Folders(NamedTuple):
    """The directories of a test: images, and the host's temporary one."""

    images: Path
    temporary: Path
    state: Path

    @property
    def template(self) -> Path:
        return self.images / "template.vhdx"

    @property
    def output(self) -> Path:
        return self.images / "serviced.vhdx"

    def names(self) -> list[str]:
        """What lies beside the template, and in the temporary directory, but for PowerShell's."""
        own = [item.name for item in self.temporary.iterdir() if item.name.startswith("i")]
        return sorted(item.name for item in self.images.iterdir()) + own

    def mounts(self) -> object:
        door = find_host(self.state)
        return door.status()["disks"] if door is not None else []


@pytest.fixture
def folders(
    template: Path, tmp_path: Path, lab_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Folders:
    found = Folders(tmp_path / "images", tmp_path / "temporary", lab_directory)
    found.images.mkdir()
    found.temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(found.temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(found.temporary))
    shutil.copyfile(template, found.template)
    return found


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def start(folders: Folders, disc: Path, faults: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "imagetool", "inject", folders.template, "--package", disc]
        + ["--allow-unsigned", "--host", "lab", "--output", folders.output],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"IMAGETOOL_LAB_FAULTS": faults},
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    said = process.communicate(timeout=120)[1]
    assert "Traceback" not in said
    return process.returncode, said


def check_nothing_is_left(folders: Folders, before: str, published: bool) -> None:
    expected = ["serviced.vhdx", "template.vhdx"] if published else ["template.vhdx"]
    assert until(lambda: folders.names() == expected and not folders.mounts()), folders.names()
    assert digest(folders.template) == before
    assert until(lambda: not is_locked(folders.template))
    if published:
        proved = run("verify", folders.output, "--accept-rehearsal", "--require", "installed")
        assert proved.returncode in (0, 1), proved.stderr  # it can be read


def test_calls_are_counted(folders: Folders, disc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of calls that the tests below interrupt is that of a whole injection."""
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "python")
    matcher = FaultMatcher([Fault("call", None, 1000, action=lambda: None)])
    inject(folders.template, disc, lambda: FaultyHost(open_lab(), matcher), folders.output)
    (counted,) = matcher._pending
    assert CALLS - 8 < 1000 - counted.countdown <= CALLS


@pytest.mark.parametrize("call", range(1, CALLS + 1, 4))
def test_a_client_that_is_killed_leaves_nothing(
    folders: Folders, disc: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "python")
    before = digest(folders.template)
    code, _ = end(start(folders, disc, f"*#{call}=kill"))
    assert code in (-signal.SIGKILL, 0)
    check_nothing_is_left(folders, before, folders.output.exists())


@pytest.mark.parametrize("call", range(2, CALLS + 1, 20))
def test_the_script_cleans_up_after_a_client_that_is_killed(
    engine: str, folders: Folders, disc: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    monkeypatch.setenv("PATH", f"{Path(engine).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "powershell")
    before = digest(folders.template)
    code, _ = end(start(folders, disc, f"*#{call}=kill"))
    assert code in (-signal.SIGKILL, 0)
    check_nothing_is_left(folders, before, folders.output.exists())


@pytest.mark.parametrize("call", range(2, CALLS + 1, 9))
def test_a_client_that_is_interrupted_undoes(
    folders: Folders, disc: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """Ctrl-C, a cancelled job, and a terminal that closes: the same."""
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "python")
    before = digest(folders.template)
    name = ("INT", "TERM", "HUP")[call // 9 % 3]
    code, said = end(start(folders, disc, f"*#{call}=signal:{name}"))
    assert code in (130, 0), said
    assert folders.output.exists() == (code == 0)
    check_nothing_is_left(folders, before, code == 0)


CMDLETS = ("Mount-VHD", "Set-Disk", "Get-Partition", "Add-PartitionAccessPath",
           "Add-WindowsPackage", "Get-WindowsPackage", "Dismount-VHD")  # fmt: skip


@pytest.mark.parametrize("cmdlet", CMDLETS)
@pytest.mark.parametrize("action", ["kill", "drop"])
def test_a_host_that_dies_in_a_cmdlet_is_no_end(
    folders: Folders, disc: Path, monkeypatch: pytest.MonkeyPatch, cmdlet: str, action: str
) -> None:
    """The host's process is killed, or its connection is: the client undoes by another session."""
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "python")
    before = digest(folders.template)
    faults = iter([f"{cmdlet}#1={action}"])
    with pytest.raises(HostFailed, match=r"template\.vhdx is as it was") as caught:
        inject(folders.template, disc, lambda: open_lab(faults=next(faults, "")), folders.output)
    assert caught.value.exit_code == 4
    check_nothing_is_left(folders, before, published=False)


# Something happens to the files while they are used


def act_at(name: str, count: int, action: Callable[[], object]) -> Callable[[], Host]:
    """Open sessions in whose nth call of that name something happens first."""
    matcher = FaultMatcher([Fault("call", name, count, action=action)])
    return lambda: FaultyHost(open_lab(engine="python"), matcher)


def patch(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(300 << 10)
        file.write(b"other")


def replace(path: Path) -> None:
    other = path.with_name("other.vhdx")
    shutil.copyfile(path, other)
    patch(other)
    other.replace(path)


HAPPENINGS: dict[str, Callable[[Path], object]] = {
    "patched": patch,
    "truncated": lambda path: os.truncate(path, 3 << 20),
    "longer": lambda path: os.truncate(path, path.stat().st_size + 4096),
    "replaced": replace,
    "deleted": lambda path: path.unlink(),
}


@pytest.mark.parametrize("happening", HAPPENINGS)
@pytest.mark.parametrize("call", [("copy", 1), ("Add-WindowsPackage", 1), ("Dismount-VHD", 1)])
def test_a_template_that_changes_meanwhile_is_said_to(
    folders: Folders, disc: Path, happening: str, call: tuple[str, int]
) -> None:
    open_host = act_at(*call, lambda: HAPPENINGS[happening](folders.template))
    with pytest.raises(ImagetoolError) as caught:
        inject(folders.template, disc, open_host, folders.output)
    assert caught.value.exit_code == 5, caught.value.message
    assert "is as it was" not in caught.value.message
    assert "change" in caught.value.message or "cannot be read any more" in caught.value.message
    assert not folders.output.exists()
    expected = [] if happening == "deleted" else ["template.vhdx"]
    assert folders.names() == expected


@pytest.mark.parametrize("call", [("sha256", 2), ("Add-WindowsPackage", 1)])
@pytest.mark.parametrize("content", [b"MSCF and no more", b""])
def test_a_staged_package_that_is_replaced_goes_into_no_image(
    folders: Folders, disc: Path, call: tuple[str, int], content: bytes
) -> None:
    def replace_package() -> None:
        (package,) = folders.temporary.rglob("package.cab")
        package.write_bytes(content)

    before = digest(folders.template)
    with pytest.raises(ImagetoolError) as caught:
        inject(folders.template, disc, act_at(*call, replace_package), folders.output)
    assert caught.value.exit_code == 5
    assert "template.vhdx is as it was" in caught.value.message
    if call[0] == "sha256":
        assert "the staged package was changed on the host" in caught.value.message
    check_nothing_is_left(folders, before, published=False)


def test_an_output_that_appears_meanwhile_is_not_overwritten(folders: Folders, disc: Path) -> None:
    open_host = act_at("Dismount-VHD", 1, lambda: folders.output.write_bytes(b"of others"))
    with pytest.raises(ImagetoolError, match="meanwhile there is a file of that name") as caught:
        inject(folders.template, disc, open_host, folders.output)
    assert caught.value.exit_code == 7
    assert folders.output.read_bytes() == b"of others"
    assert folders.names() == ["serviced.vhdx", "template.vhdx"]


# Two at once


def test_two_with_one_output_make_one(
    folders: Folders, disc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "python")
    before = digest(folders.template)
    ended = [end(process) for process in [start(folders, disc), start(folders, disc)]]
    codes = sorted(code for code, _ in ended)
    # One is refused: for the name, or because its disk has the identifier of the other's copy.
    assert codes in ([0, 7], [0, 4]), ended
    check_nothing_is_left(folders, before, published=True)


def test_two_of_one_template_do_not_meet(
    folders: Folders, disc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "python")
    before = digest(folders.template)
    other = folders._replace(images=folders.images)
    first = start(folders, disc)
    second = subprocess.Popen(
        [*map(str, first.args[:-1]), str(folders.images / "second.vhdx")],  # type: ignore[index]  # a list
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    ended = [end(first), end(second)]
    made = [name for name in other.names() if name != "template.vhdx"]
    assert len(made) == sum(code == 0 for code, _ in ended) >= 1, ended
    for code, said in ended:
        assert code == 0 or (code == 4 and "has its identifier" in said), said
    assert until(lambda: not folders.mounts())
    assert digest(folders.template) == before


# Writes that fail


@pytest.mark.parametrize("fault", ["disk-write#40=0x80070070", "disk-write#9=kill"])
def test_a_write_that_fails_leaves_nothing(
    folders: Folders, disc: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The process that writes to the image is refused a write, or killed in the middle."""
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "python")
    before = digest(folders.template)
    code, said = end(start(folders, disc, fault))
    assert code == 5, said
    assert "the emulated host cannot write the image" in said
    assert "template.vhdx is as it was" in said
    check_nothing_is_left(folders, before, published=False)


@pytest.mark.parametrize(
    ("calls", "error", "code", "words"),
    [
        ("rename,renameat,renameat2,link,linkat", "EIO:when=1+", 5, "as it was"),
        ("pwrite64", "ENOSPC:when=1+", 7, "temporary directory is full"),
    ],
)
def test_the_engine_s_own_calls_fail(
    engine: str,
    oracle: Callable[[str], str],
    folders: Folders,
    disc: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    calls: str,
    error: str,
    code: int,
    words: str,
) -> None:
    """.NET falls back from rename to link, so both fail."""
    traced = tmp_path / "bin" / "pwsh"
    traced.parent.mkdir()
    traced.write_text(
        f"#!/bin/sh\nexec {oracle('strace')} -f -qq -o /dev/null -e trace={calls} "
        f'-e inject={calls}:error={error} {engine} "$@"\n',
        encoding="utf-8",
    )
    traced.chmod(0o755)
    monkeypatch.setenv("PATH", f"{traced.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "powershell")
    before = digest(folders.template)
    found, said = end(start(folders, disc))
    assert found == code, said
    assert words in said
    assert not folders.output.exists()
    check_nothing_is_left(folders, before, published=False)


# What is missing is said before the work


def test_an_emulated_host_without_its_libraries_says_so(
    lab_engine: str, folders: Folders, disc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_libraries, "writers_installed", lambda: False)
    host = EmulatedHost()
    with pytest.raises(HostFailed, match="lacks the libraries") as caught:
        inject(folders.template, disc, lambda: open_lab(host), folders.output)
    assert caught.value.exit_code == 4
    assert "libntfs-3g" in caught.value.hint
    assert folders.names() == ["template.vhdx"]


@pytest.mark.parametrize("free", [0, 60 << 20])
def test_too_little_room_is_said(lab_engine: str, folders: Folders, disc: Path, free: int) -> None:
    class Full(FaultyHost):
        def operate(self, operation: str, **options: Any) -> Result:
            found = super().operate(operation, **options)
            if operation == "volume":
                found["free"] = free
            return found

    with pytest.raises(CannotWrite, match=r"bytes are free there, and the copy needs") as caught:
        inject(folders.template, disc, lambda: Full(open_lab(), FaultMatcher()), folders.output)
    assert caught.value.exit_code == 7
    assert folders.names() == ["template.vhdx"]
