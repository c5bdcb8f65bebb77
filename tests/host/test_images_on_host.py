"""Images that lie on a host: what every command says of them is what it says of the same file here.

Through the emulated host, its real script and the real PowerShell engine.
"""

from __future__ import annotations

import fcntl
import json
import lzma
import os
import random
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

import imagetool
from fixtures import chains, guests, linux
from fixtures.cache import cached_folder
from fixtures.disks import MIB
from fixtures.guests import cached_guest
from imagetool.errors import CannotOpen, HostFailed, ImagetoolError, Unsupported
from imagetool.guest.image import open_image
from imagetool.guest.inspection import inspect_image
from imagetool.guest.registry_keys import find_value
from imagetool.host.reading import HostFiles
from imagetool.host.reading.pages import PAGE_SIZE
from imagetool.host.session import Session
from imagetool.location import Location, split_host_path
from imagetool.verdict.verify import verify
from tests.program import invoke

AUTO = "HKLM\\SOFTWARE\\Microsoft\\Virtual Machine\\Auto"
VALUE = "IntegrationServicesVersion"
CONFIG = "Windows/System32/config"
Unpack = Callable[[str], Path]


class Said:
    """What a command line said, and its exit code."""

    def __init__(self, *arguments: object) -> None:
        self.code, self.out, self.err = invoke(*map(str, arguments))

    def here(self) -> tuple[int, bytes, str]:
        """As if the place of its images had been this machine."""
        return self.code, self.out.replace(b"lab:/", b"/"), self.err.replace("lab:/", "/")


Ask = Callable[..., Said]


@pytest.fixture
def ask(lab: Session, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Runs a command line, with one session for all of them."""
    monkeypatch.setattr(
        "imagetool.connection.session_opener", lambda host: lambda: nullcontext(lab)
    )
    return Said


def same(ask: Ask, image: Path, *questions: tuple[object, ...]) -> None:
    """Each question, with the image in place of None, is answered alike on both ways."""
    for question in questions:
        here, there = (
            ask(*(place if part is None else part for part in question))
            for place in (image, f"lab:{image}")
        )
        assert without_times(there.here()) == without_times(here.here()), question
        assert b"lab:" not in here.out


def without_times(said: tuple[int, bytes, str]) -> tuple[int, bytes, str]:
    """What was said, less the times of a JUnit report."""
    code, out, err = said
    return code, re.sub(rb' time(stamp)?="[^"]*"', b"", out), err


OF_A_DISK: tuple[tuple[object, ...], ...] = (
    ("inspect", None),
    ("inspect", None, "--format", "json"),
    ("verify", None, "--format", "json"),
    ("disk", "map", None, "--format", "json"),
    ("file", "list", None),
    ("registry", "get", None, AUTO, VALUE),
)
OF_A_GUEST: tuple[tuple[object, ...], ...] = (
    ("verify", None),
    ("disk", "map", None),
    ("registry", "get", None, AUTO, VALUE, "--format", "json"),
    ("registry", "list", None, "HKLM\\SYSTEM\\CurrentControlSet\\Services"),
    ("registry", "list", None, "HKLM\\NONE"),
    ("file", "list", None, "C:\\Windows\\System32"),
    ("file", "list", None, CONFIG, "--format", "json"),
    ("file", "read", None, f"{CONFIG}/SYSTEM"),
    ("file", "read", None, "no/such/file"),
)
GUESTS = ("SERVER_2012_R2", "SERVER_2012", "SERVER_2008_R2", "VISTA", "UPGRADED", "PENDING",
          "WINDOWS_10", "ROLLED_UP", "CONTRADICTORY", "NEVER_BOOTED")  # fmt: skip


@pytest.mark.parametrize("name", GUESTS)
def test_a_guest_is_the_same_there(ask: Ask, name: str) -> None:
    same(ask, cached_guest(getattr(guests, name)), *OF_A_DISK, *OF_A_GUEST)


def test_a_verdict_with_a_package_is_the_same(ask: Ask, template: Path, disc: Path) -> None:
    same(ask, template, ("verify", None, "--package", disc, "--format", "json"))
    same(ask, template, ("verify", None, "--package", disc, "--format", "junit"))


FOREIGN = (
    "dfvfs-ext2.vhd.xz",
    "dfvfs-image.vhd.xz",
    "gpt-no-backup.raw.xz",
    "hyperv2012r2-dynamic.vhd.bz2",
    "iotest-dirtylog-10G-4M.vhdx.bz2",
    "iotest-dynamic-1G.vhdx.bz2",
    "mbr-4096-sector.raw.xz",
    "server2022-dynamic-ntfs.vhdx.zip",
    "test-disk2vhd.vhdx.bz2",
    "virtualpc-dynamic.vhd.bz2",
    "discutils-disk.vhdx.xz",
    "discutils-disk-child1.avhdx.xz",  # whose parent has another name here
)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_disk_is_the_same_there(ask: Ask, unpack: Unpack, name: str) -> None:
    same(ask, unpack(f"disk/{name}"), *OF_A_DISK)


@pytest.mark.parametrize("name", ["ntfs-512-clusters.raw", "ntfs-compressed-1k-clusters.raw"])
def test_a_bare_volume_is_the_same_there(ask: Ask, unpack: Unpack, name: str) -> None:
    same(ask, unpack(f"fs/{name}.xz"), *OF_A_DISK)


def test_linux_on_logical_volumes_is_the_same_there(ask: Ask, oracle: Callable[..., str]) -> None:
    for name in ("mkfs.ext4", "mkfs.xfs", "sfdisk"):
        oracle(name)
    folder = cached_folder("linux-on-lvm", linux.build_lvm)
    images = [path for path in sorted(folder.iterdir()) if path.suffix in (".raw", ".vhdx")]
    for image in images:
        same(ask, image, *OF_A_DISK)


def test_chains_find_their_parents_on_the_host(ask: Ask, unpack: Unpack, tmp_path: Path) -> None:
    for name in ("disk.vhdx", "disk-child1.avhdx", "disk-child2.avhdx"):
        shutil.copyfile(unpack(f"disk/discutils-{name}.xz"), tmp_path / name)
    same(ask, tmp_path / "disk-child2.avhdx", *OF_A_DISK)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "disk.vhdx").rename(tmp_path / "elsewhere/disk.vhdx")
    child = tmp_path / "disk-child2.avhdx"
    same(ask, child, ("inspect", None), ("inspect", None, "--parents", tmp_path / "elsewhere"))
    raws = [tmp_path / "here.raw", tmp_path / "there.raw"]
    for image, raw in zip((child, f"lab:{child}"), raws, strict=True):
        done = ask("disk", "export", image, raw, "--parents", tmp_path / "elsewhere")
        assert not done.code
    assert raws[0].read_bytes() == raws[1].read_bytes()
    # A name that another disk of the chain has leads back to it.
    (tmp_path / "elsewhere/disk.vhdx").unlink()
    shutil.copyfile(tmp_path / "disk-child1.avhdx", tmp_path / "disk.vhdx")
    (tmp_path / "disk-child1.avhdx").unlink()
    same(ask, tmp_path / "disk-child2.avhdx", ("inspect", None))


def test_a_chain_of_several_chunks_and_a_vhd(
    ask: Ask, unpack: Unpack, tmp_path: Path, library: Callable[[str], Any]
) -> None:
    library("FATtools")
    same(ask, cached_folder("chain", chains.build_chain) / "child.avhdx", *OF_A_DISK)
    shutil.copyfile(unpack("disk/dfvfs-image.vhd.xz"), tmp_path / "image.vhd")
    shutil.copyfile(unpack("disk/dfvfs-image-differential.vhd.xz"), tmp_path / "child.vhd")
    same(ask, tmp_path / "child.vhd", *OF_A_DISK)


def test_what_is_extracted_is_the_same(ask: Ask, template: Path, tmp_path: Path) -> None:
    for place, image in (("here", template), ("there", f"lab:{template}")):
        assert not ask("file", "extract", image, CONFIG, tmp_path / place).code
    names = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "there").iterdir())
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def test_a_bare_hive_with_its_logs(ask: Ask, testdata: Path, tmp_path: Path) -> None:
    for suffix in ("", ".LOG1", ".LOG2"):
        packed = testdata / f"hive/windows10-SYSTEM-dirty{suffix}.xz"
        (tmp_path / f"SYSTEM{suffix}").write_bytes(lzma.decompress(packed.read_bytes()))
    others = [path for path in (testdata / "hive/yarp").rglob("*Hive*") if path.is_file()]
    for hive in [tmp_path / "SYSTEM", *sorted(others)]:
        same(ask, hive, ("registry", "list", None, ""))
    key = "HKLM\\SYSTEM\\CurrentControlSet\\Services\\vmbus"
    same(ask, tmp_path / "SYSTEM", ("registry", "list", None, key))
    (tmp_path / "SYSTEM.LOG1").write_bytes(b"")
    same(ask, tmp_path / "SYSTEM", ("registry", "get", None, key, "Start"))


def test_what_cannot_be_opened_is_said_as_here(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "directory.vhdx").mkdir()
    (tmp_path / "empty.vhdx").touch()
    (tmp_path / "text.vhdx").write_text("a text")
    for name in ("none.vhdx", "no/such/folder.vhdx", "directory.vhdx", "empty.vhdx", "text.vhdx"):
        same(
            ask,
            tmp_path / name,
            ("verify", None),
            ("inspect", None, "--format", "json"),
            ("disk", "map", None),
            ("registry", "get", None, "x"),
        )


def test_what_others_hold_is_said(ask: Ask, template: Path, tmp_path: Path) -> None:
    held = tmp_path / "held.vhdx"
    shutil.copyfile(template, held)
    with held.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = ask("verify", f"lab:{held}")
        assert done.code == 3
        assert "a running virtual machine" in done.err
    assert not ask("verify", f"lab:{held}").code


def test_pipes_and_devices_end_in_a_sentence_and_hold_nothing_up(
    ask: Ask, template: Path, unpack: Unpack, testdata: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "a.vhdx")
    (tmp_path / "b.vhdx").symlink_to("/dev/zero")
    (tmp_path / "c.vhdx").symlink_to("a.vhdx")
    (tmp_path / "d.vhdx").symlink_to(template)
    (tmp_path / "e.vhdx").symlink_to("e.vhdx")
    done = ask("verify", f"lab:{tmp_path}/*.vhdx")
    assert done.code == 3
    *lines, _ = done.out.decode().splitlines()
    assert [": current" in line for line in lines] == [False, False, False, True, False], lines
    # The same as a parent, and as a hive's log.
    shutil.copyfile(unpack("disk/discutils-disk-child1.avhdx.xz"), tmp_path / "child.avhdx")
    os.mkfifo(tmp_path / "disk.vhdx")
    assert ask("inspect", f"lab:{tmp_path}/child.avhdx").code == 3


def test_parents_lie_beside_what_a_link_leads_to(ask: Ask, unpack: Unpack, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "links").mkdir()
    for name in ("disk.vhdx", "disk-child1.avhdx"):
        shutil.copyfile(unpack(f"disk/discutils-{name}.xz"), tmp_path / "own" / name)
    child = tmp_path / "links/disk-child1.avhdx"
    child.symlink_to("../own/disk-child1.avhdx")
    same(ask, child, ("inspect", None), ("disk", "map", None))
    assert not ask("inspect", f"lab:{child}").code


def test_a_file_that_shrinks_is_its_own_failure(
    lab: Session, template: Path, tmp_path: Path
) -> None:
    image = tmp_path / "image.vhdx"
    shutil.copyfile(template, image)
    files = HostFiles(lab, "lab")
    with open_image(str(image), files=files) as opened:
        os.truncate(image, 5 << 20)
        with pytest.raises(CannotOpen, match="become shorter while it was read") as caught:
            opened.windows()
        assert caught.value.exit_code == 3
    with open_image(str(template), files=files) as opened:
        assert opened.windows().product


def test_without_permission(ask: Ask, template: Path, tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root may read everything")
    secret = tmp_path / "secret.vhdx"
    shutil.copyfile(template, secret)
    secret.chmod(0)
    done = ask("verify", f"lab:{secret}")
    assert done.code == 3
    assert "permission to read it is denied" in done.err


ODD = ("odd $(touch x) `y`", 'quo\'te "two"', "br[ack]et", "ünï 日本 \U0001f600", "-dash; & | > <")


def test_odd_names_and_patterns(ask: Ask, template: Path, tmp_path: Path) -> None:
    for name in ODD:
        (tmp_path / f"{name}.vhdx").symlink_to(template)
        same(ask, tmp_path / f"{name}.vhdx", ("verify", None, "--format", "json"))
    (tmp_path / "text.vhdx").write_text("a text")
    for pattern in ("*.vhdx", "[bot]*.vhdx", "?ï*.vhdx", "*/none", "none*"):
        same(ask, tmp_path / pattern, ("verify", None), ("inspect", None))
    done = ask("verify", f"lab:{tmp_path}/*.vhdx", tmp_path / "text.vhdx")
    assert done.code == 3
    assert len(done.out.splitlines()) == len(ODD) + 3
    assert done.out.count(b": current") == len(ODD)


def test_a_name_that_is_not_utf_8_is_refused_and_no_other_file_judged(
    ask: Ask, template: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / os.fsdecode(b"t\xff.vhdx")).symlink_to(template)
    (folder / "t\ufffd.vhdx").write_text("another file")
    done = ask("verify", os.fsdecode(b"lab:%s/t\xff.vhdx" % os.fsencode(folder)))
    assert done.code == 3
    assert "is not UTF-8" in done.err


def test_a_pattern_is_expanded_in_one_request(
    ask: Ask, lab: Session, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        (tmp_path / f"{number}.vhdx").symlink_to(template)
    asked = counted(lab, monkeypatch)
    ask("verify", f"lab:{tmp_path}/*.vhdx")
    assert asked.count("list") == 1
    assert asked.count("open") == 5
    assert "shut" not in asked
    assert len(asked) <= 1 + 12 + 4 * 2


def counted(lab: Session, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations that are asked for from now on."""
    asked: list[str] = []
    operate = lab.operate

    def count(operation: str, **parameters: Any) -> object:
        asked.append(operation)
        return operate(operation, **parameters)

    monkeypatch.setattr(lab, "operate", count)
    return asked


def test_a_question_takes_few_exchanges(lab: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = counted(lab, monkeypatch)
    first, second = cached_guest(guests.SERVER_2012_R2), cached_guest(guests.GENERALISED)
    questions: tuple[Callable[[Any], object], ...] = (
        verify,
        inspect_image,
        lambda image: find_value(image, AUTO, VALUE),
    )
    for question in questions:
        files = HostFiles(lab, "lab", lazy_close=True)
        asked.clear()
        with open_image(first, files=files) as image:
            question(image)
        assert len(asked) <= 12
        asked.clear()
        with open_image(second, files=files) as image:  # of the same template
            question(image)
        assert len(asked) <= 3
        files.close_pending()


def test_a_tree_is_extracted_in_few_exchanges(
    ask: Ask, lab: Session, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = counted(lab, monkeypatch)
    done = ask("file", "extract", f"lab:{template}", "Windows", tmp_path / "tree")
    assert "40 files" in done.err
    assert len(asked) <= 30


def there(path: Path | str, session: Session) -> Location:
    """The location of a path on the host of a session, by the path alone in messages."""
    return Location(str(path), "lab", lambda host: HostFiles(session))


def test_the_library_takes_a_location(lab: Session, template: Path) -> None:
    image, path = there(template, lab), str(template)
    assert imagetool.read_registry_value(image, AUTO, VALUE) == "6.3.9600.16384"
    assert imagetool.verify(image) == imagetool.verify(path)
    assert imagetool.inspect(image) == imagetool.inspect(path)
    with imagetool.open_image(image) as opened:
        assert opened.path == path
    with pytest.raises(CannotOpen, match="no such file"):
        imagetool.open_image(there(f"{path}.none", lab))


def test_a_damaged_guest_ends_there_as_here(lab: Session, template: Path, tmp_path: Path) -> None:
    """Damage where a verdict reads: the answer or the failure is the same, word for word."""
    files = HostFiles(lab)
    with open_image(str(template), files=files) as image:
        verify(image)
        touched = sorted(image._file._touched)  # type: ignore[attr-defined]
    damaged = tmp_path / "damaged.vhdx"
    shutil.copyfile(template, damaged)
    ends = set()
    for seed in range(25):
        noise = random.Random(seed)
        places = [noise.choice(touched) * PAGE_SIZE + noise.randrange(PAGE_SIZE) for _ in range(12)]
        with damaged.open("r+b") as file:
            for place in places:
                file.seek(place)
                before = file.read(1)
                file.seek(place)
                file.write(bytes([before[0] ^ 1 << noise.randrange(8)]))
        for question in (imagetool.verify, imagetool.inspect):
            here = outcome(question, damaged)
            assert outcome(question, there(damaged, lab)) == here
            ends.add(type(here))
        with template.open("rb") as origin, damaged.open("r+b") as file:
            for place in places:
                origin.seek(place)
                file.seek(place)
                file.write(origin.read(1))
    assert len(ends) == 3  # a verification, an inspection, and failures


def outcome(question: Callable[..., object], image: Path | Location) -> object:
    try:
        return question(image)
    except ImagetoolError as error:
        return type(error), error.message, error.hint


# Hosts that fail


class Failing:
    """A session that fails after some requests; it says whether it was closed."""

    def __init__(self, lab: Session, left: int, failure: BaseException) -> None:
        self.lab, self.left, self.failure = lab, left, failure
        self.on_windows = False
        self.asked = 0
        self.closed = False

    def operate(self, operation: str, **parameters: Any) -> object:
        self.asked += 1
        if self.asked > self.left:
            raise self.failure
        result = self.lab.operate(operation, **parameters)
        if operation == "open":
            result["busy"] = True
        return result

    def __enter__(self) -> Failing:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


def failing(
    monkeypatch: pytest.MonkeyPatch, session: AbstractContextManager[object] | HostFailed
) -> None:
    def open_it() -> object:
        if isinstance(session, HostFailed):
            raise session
        return session

    monkeypatch.setattr("imagetool.connection.session_opener", lambda host: open_it)


@pytest.fixture
def images(template: Path, tmp_path: Path) -> Iterator[Path]:
    for number in range(4):
        (tmp_path / f"{number}.vhdx").symlink_to(template)
    yield tmp_path


def test_where_the_way_breaks_each_image_has_a_line_and_nothing_is_tried_again(
    lab: Session, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Failing(lab, 12, HostFailed("the way to hv01 broke"))
    failing(monkeypatch, session)
    done = Said("verify", f"hv01:{images}/*.vhdx", images / "0.vhdx")
    *said, summary = done.out.decode().splitlines()
    lines = [line for line in said if not line.startswith("  warning: ")]
    assert summary == "3 judged: 3 hold, 0 fail; 2 could not be read"
    assert done.code == 4
    assert session.asked == 13
    assert session.closed
    assert [": current" in line for line in lines] == [True, True, False, False, True]
    assert lines[2:4] == [f"hv01:{images}/{number}.vhdx: unknown" for number in (2, 3)]
    said = [line for line in done.err.splitlines() if line.startswith("imagetool: ")]
    assert said[0].startswith(f"imagetool: hv01:{images}/2.vhdx: the way to hv01 broke")
    assert "not read, for the host failed before: the way to hv01 broke" in said[1]
    assert len(lines) == 5


def test_a_host_that_cannot_be_reached_spares_other_images(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, HostFailed("hv01 does not answer", hint="Is it on?"))
    done = Said("verify", f"hv01:{images}/*.vhdx", f"HV01:{images}/2.vhdx", images / "0.vhdx")
    assert done.code == 4
    lines = done.out.decode().splitlines()
    assert lines.pop() == "1 judged: 1 hold, 0 fail; 2 could not be read"
    assert len(lines) == 3
    assert lines[0] == f"hv01:{images}/*.vhdx: unknown"
    assert f"imagetool: hv01:{images}/*.vhdx: hv01 does not answer\n" in done.err
    assert lines[2].startswith(f"{images}/0.vhdx: current")
    assert Said("registry", "get", f"hv01:{images}/0.vhdx", AUTO).code == 4


def test_an_interruption_closes_the_session(
    lab: Session, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for left, *arguments in ((0, "verify"), (7, "verify"), (3, "file", "list"), (1, "inspect")):
        session = Failing(lab, int(left), KeyboardInterrupt())
        failing(monkeypatch, session)
        assert Said(*arguments, f"hv01:{images}/0.vhdx").code == 130
        assert session.closed
        assert not [item for item in threading.enumerate() if item.name == "question"]


def test_an_image_that_somebody_writes_to_is_warned_of(
    lab: Session, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, Failing(lab, 999, HostFailed("never")))
    image = f"hv01:{images}/0.vhdx"
    done = Said("verify", image, "--format", "json")
    assert not done.code
    assert "mixture" in json.loads(done.out)["images"][0]["warnings"][0]
    assert "in use on the host" in Said("registry", "get", image, AUTO, VALUE).err
    for arguments in (("verify", image), ("inspect", image), ("disk", "map", image)):
        assert b"in use on the host" in Said(*arguments).out


def test_where_an_image_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hv01:t.vhdx").touch()
    for image, expected in (
        ("t.vhdx", ("", "t.vhdx")),
        ("D:\\images\\t.vhdx", ("", "D:\\images\\t.vhdx")),
        ("hv01:t.vhdx", ("", "hv01:t.vhdx")),  # a file that exists here wins
        ("./hv02:t.vhdx", ("", "./hv02:t.vhdx")),
        ("hv02:t.vhdx", ("hv02", "t.vhdx")),
        ("hv01:D:\\images\\t.vhdx", ("hv01", "D:\\images\\t.vhdx")),
        ("hv01.example.org:\\\\fs\\share\\t.vhdx", ("hv01.example.org", "\\\\fs\\share\\t.vhdx")),
        ("HV_1:/t", ("HV_1", "/t")),
        ("local:/t.vhdx", ("", "/t.vhdx")),
        ("LAB:/t.vhdx", ("LAB", "/t.vhdx")),
        ("hv01:", ("", "hv01:")),
        ("x" * 5000 + ":y", ("x" * 5000, "y")),
    ):
        assert split_host_path(image) == expected
    with pytest.raises(Unsupported, match="behind a URL is not read yet"):
        split_host_path("https://hv01/t.vhdx")


def test_two_spellings_of_a_whole_windows_path_are_one_location() -> None:
    location = Location("D:\\images\\t.vhdx", "hv01")
    for path in ("d:/Images/T.vhdx", "D:\\images\\x\\..\\t.vhdx"):
        assert Location(path, "HV01") == location
        assert len({location, Location(path, "HV01")}) == 1
    for other in (Location("D:\\images\\t.vhdx"), Location("D:\\t.vhdx", "hv01")):
        assert other != location
    assert Location("/T.vhdx", "hv01") != Location("/t.vhdx", "hv01")
    assert Location("d:/T.vhdx") != Location("D:\\t.vhdx") or os.name == "nt"


def test_memory_stays_bounded_however_much_is_read(lab: Session, template: Path) -> None:
    from imagetool.host.reading.files import MAX_CACHED_BYTES

    files = HostFiles(lab, "lab")
    with files.open(str(template)) as file:
        for offset in range(0, file.size, MIB):
            file.read_at(offset, MIB)
        assert len(files._pages) * PAGE_SIZE <= MAX_CACHED_BYTES
        for offset in range(0, file.size, 7 * MIB):
            with template.open("rb") as here:
                here.seek(offset)
                assert file.read_at(offset, 5000) == here.read(5000)


def test_where_python_answers_in_place_of_powershell_it_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from imagetool.lab.emulated_host import EmulatedHost
    from imagetool.lab.session import open_lab

    with open_lab(EmulatedHost(), engine="python") as session:
        failing(monkeypatch, nullcontext(session))
        same(Said, cached_guest(guests.SERVER_2012_R2), *OF_A_DISK, *OF_A_GUEST)
        same(Said, Path("/none.vhdx"), ("verify", None))
        same(Said, Path("/"), ("verify", None))


class FailingMidway:
    """A session that fails for good after a number of operations."""

    def __init__(self, session: Session, operations: int) -> None:
        self._session = session
        self._left = operations

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def operate(self, *arguments: Any, **parameters: Any) -> Any:
        if not self._left:
            raise HostFailed("the wire was cut")
        self._left -= 1
        return self._session.operate(*arguments, **parameters)


QUESTIONS: dict[str, Callable[[Any], object]] = {
    "inspect": lambda image: inspect_image(image).to_json(),
    "verify": lambda image: verify(image).to_json(),
    "value": lambda image: find_value(image, AUTO, VALUE).data,
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_host_that_fails_midway_is_never_an_answer(
    lab: Session, template: Path, question: str
) -> None:
    def ask(operations: int) -> object:
        session: Any = FailingMidway(lab, operations)
        with open_image(str(template), files=HostFiles(session)) as image:
            return QUESTIONS[question](image)

    truth, failed = ask(1000), 0
    for operations in range(100):
        try:
            answer = ask(operations)
        except HostFailed as error:
            failed += 1
            assert "the wire was cut" in error.message
            continue
        assert answer == truth, operations
        break
    assert failed > 5
