"""Disk files that the lab makes and changes: a model of plain bytes, readers that are not ours."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagetool.contracts import Host
from imagetool.disk import FileSource, open_disk
from imagetool.errors import CannotWrite, Unsupported
from imagetool.host.answers import CmdletFailed
from imagetool.lab import open_lab
from imagetool.lab.disks.making import convert_disk, make_child, make_disk
from imagetool.lab.disks.shape import Shape
from imagetool.lab.disks.writable import WritableDisk
from imagetool.lab.emulated_host import EmulatedHost

SIZE = 9 << 20
SUFFIXES = ("vhdx", "vhd")

OFFSETS = st.integers(0, SIZE - 1)
LENGTHS = st.one_of(st.integers(1, 2000), st.sampled_from([512, 4096, 3 << 20]))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), OFFSETS, LENGTHS),
        st.tuples(st.just("child"), st.just(0), st.just(0)),
        st.tuples(st.just("convert"), st.sampled_from([0, 1, 2]), st.just(0)),
    ),
    max_size=8,
)


def read_all(path: Path) -> bytes:
    with FileSource(path) as source:
        disk = open_disk(source, (path.parent,))
        try:
            assert disk.warnings == ()
            return disk.read_at(0, disk.size)
        finally:
            disk.close()


def by_libvhdi(library: ModuleType, path: Path) -> bytes:
    """The content as libvhdi reads it; a child with its parents, which it does not look for."""
    chain = [path]
    with FileSource(path) as source:
        disk = open_disk(source, (path.parent,))
        chain += [Path(name) for name in disk.chain]
        disk.close()
    opened = []
    for name in chain:
        file = library.file()
        file.open(str(name))
        opened.append(file)
    for child, parent in pairwise(opened):
        child.set_parent(parent)
    size = opened[0].get_media_size()
    return bytes(opened[0].read_buffer_at_offset(size, 0))


def by_7zip(program: str, path: Path) -> bytes:
    """The content as 7-Zip reads it, with the parents beside it."""
    kind = f"-t{path.suffix[1:].upper()}"
    return subprocess.run([program, "x", "-so", kind, path], capture_output=True, check=True).stdout


def by_qemu(program: str, path: Path) -> bytes:
    raw, kind = path.with_suffix(".raw"), {".vhdx": "vhdx", ".vhd": "vpc"}[path.suffix]
    subprocess.run(
        [program, "convert", "-f", kind, "-O", "raw", path, raw], check=True, capture_output=True
    )
    try:
        return raw.read_bytes()
    finally:
        raw.unlink()


def first_shape(suffix: str, kind: str, sector: int) -> Shape:
    """Few and small blocks, so that a write crosses several of them."""
    return Shape(kind, SIZE, 1 << 20 if suffix == "vhdx" else 1 << 19, sector)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(kind=st.sampled_from(["dynamic", "fixed"]), sector=st.sampled_from([512, 4096]), steps=STEPS)
def test_children_writes_and_conversions_are_as_plain_bytes(
    oracle: Callable[[str], str],
    library: Callable[[str], ModuleType],
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    kind: str,
    sector: int,
    steps: list[tuple[str, int, int]],
) -> None:
    folder = tmp_path_factory.mktemp("disks")
    path = folder / f"0.{suffix}"
    make_disk(path, first_shape(suffix, kind, sector if suffix == "vhdx" else 512))
    model, noise = bytearray(SIZE), random.Random(len(steps))
    for number, (what, where, length) in enumerate(steps, 1):
        new = folder / f"{number}.{suffix}"
        if what == "write":
            data = noise.randbytes(min(length, SIZE - where))
            with WritableDisk(path) as disk:
                disk.write_at(where, data)
                assert disk.read_at(where, len(data)) == data
            model[where : where + len(data)] = data
        elif what == "child":
            make_child(new, path, 1 << 20)
            path = new
            with WritableDisk(path) as disk:  # without a bitmap libvhdi reads the file's beginning
                disk.write_at(0, bytes(model[:1]))
        else:
            other = SUFFIXES[where % 2]
            new = new.with_suffix(f".{other}")
            convert_disk(path, new, ("", "dynamic", "fixed")[where], 1 << 20)
            path, suffix = new, other
        assert read_all(path) == model
    assert by_7zip(oracle("7z"), path) == model
    if suffix == "vhdx":
        assert by_libvhdi(library("pyvhdi"), path) == model


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["dynamic", "fixed"])
def test_qemu_reads_what_is_written(
    oracle: Callable[[str], str], tmp_path: Path, suffix: str, kind: str
) -> None:
    qemu, path, noise = oracle("qemu-img"), tmp_path / f"disk.{suffix}", random.Random(5)
    make_disk(path, Shape(kind, 40 << 20, 1 << 20 if suffix == "vhdx" else 2 << 20))
    model = bytearray(40 << 20)
    with WritableDisk(path) as disk:
        for _ in range(30):
            offset = noise.randrange(0, (40 << 20) - 70_000)
            data = noise.randbytes(noise.randrange(1, 70_000))
            disk.write_at(offset, data)
            model[offset : offset + len(data)] = data
    if suffix == "vhdx":
        subprocess.run([qemu, "check", "-q", path], check=True, capture_output=True)
    found = by_qemu(qemu, path)
    assert found[: len(model)] == model  # of a VHD it rounds the size up to its geometry
    assert not found[len(model) :].strip(b"\0")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_child_of_an_image_is_read_by_others(
    library: Callable[[str], ModuleType], oracle: Callable[[str], str], tmp_path: Path, suffix: str
) -> None:
    """The parent is qemu's, the child ours: of many blocks, with writes in the middle of one.

    Of a VHD libvhdi takes for zeros what is behind a sector of the child's in a byte of its bitmap.
    """
    parent, child = tmp_path / f"parent.{suffix}", tmp_path / f"child.{suffix}"
    noise = random.Random(7)
    raw = tmp_path / "raw"
    raw.write_bytes(noise.randbytes(8 << 20))
    formats = {"vhdx": ("vhdx", "subformat=dynamic,block_size=1M"),
               "vhd": ("vpc", "subformat=dynamic,force_size=on")}  # fmt: skip
    kind, options = formats[suffix]
    subprocess.run(
        [oracle("qemu-img"), "convert", "-O", kind, "-o", options, raw, parent], check=True
    )
    before = parent.read_bytes()
    make_child(child, parent)
    model = bytearray(raw.read_bytes())
    for offset, length in (
        (0, 1),
        (511, 2),
        (4096, 4096),
        ((2 << 20) - 100, 200),
        (7 << 20, 1 << 20),
    ):
        with WritableDisk(child) as disk:
            data = noise.randbytes(length)
            disk.write_at(offset, data)
        model[offset : offset + length] = data
    assert read_all(child) == model
    assert by_7zip(oracle("7z"), child) == model
    if suffix == "vhdx":
        assert by_libvhdi(library("pyvhdi"), child) == model
    assert parent.read_bytes() == before


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        make_disk(tmp_path / f"a.{suffix}", first_shape(suffix, "dynamic", 512))
        with pytest.raises(CannotWrite, match="there is a file of that name already"):
            make_disk(tmp_path / f"a.{suffix}", first_shape(suffix, "dynamic", 512))
    with pytest.raises(Unsupported, match="the child of a VHDX disk is one as well"):
        make_child(tmp_path / "b.vhd", tmp_path / "a.vhdx")
    (tmp_path / "raw").write_bytes(bytes(4096))
    with pytest.raises(Unsupported, match="VHDX and VHD files only"):
        WritableDisk(tmp_path / "raw")


def test_a_conversion_is_another_disk(tmp_path: Path) -> None:
    """No document promises that Convert-VHD keeps the identifier, so the lab gives a new one."""
    make_disk(tmp_path / "a.vhdx", first_shape("vhdx", "dynamic", 512))
    convert_disk(tmp_path / "a.vhdx", tmp_path / "b.vhdx")
    found = []
    for name in "ab":
        with FileSource(tmp_path / f"{name}.vhdx") as source:
            found.append(open_disk(source).identifiers["VirtualDiskId"])
    assert found[0] != found[1]


# The cmdlets


@pytest.fixture
def session(lab_engine: str) -> Iterator[Host]:
    with open_lab(EmulatedHost()) as opened:
        yield opened


KNOWN = ("Path", "VhdFormat", "VhdType", "Size", "BlockSize", "LogicalSectorSize", "ParentPath",
         "Attached", "FileSize", "DiskIdentifier")  # fmt: skip


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_new_disks_children_and_conversions(session: Host, tmp_path: Path, suffix: str) -> None:
    disk, child, whole = (str(tmp_path / f"{name}.{suffix}") for name in ("disk", "child", "whole"))
    (made,) = session.invoke("New-VHD", Path=disk, SizeBytes=12 << 20, properties=KNOWN)
    assert (made["VhdFormat"], made["VhdType"]) == (suffix.upper(), "Dynamic")
    assert made["Size"] == 12 << 20
    assert made["Attached"] is False
    with WritableDisk(Path(disk)) as written:
        written.write_at(5 << 20, b"of the parent")
    before = Path(disk).read_bytes()
    (made,) = session.invoke(
        "New-VHD", Path=child, ParentPath=disk, Differencing=True, properties=KNOWN
    )
    assert (made["VhdType"], made["ParentPath"]) == ("Differencing", disk)
    with WritableDisk(Path(child)) as written:
        written.write_at(6 << 20, b"of the child")
    session.invoke("Convert-VHD", Path=child, DestinationPath=whole, VHDType="Fixed")
    (found,) = session.invoke("Get-VHD", Path=whole, properties=KNOWN)
    assert (found["VhdType"], found["ParentPath"]) == ("Fixed", "")
    assert found["DiskIdentifier"] != made["DiskIdentifier"]
    assert read_all(Path(whole)) == read_all(Path(child))
    assert Path(disk).read_bytes() == before
    other = str(tmp_path / f"other.{SUFFIXES[suffix == 'vhdx']}")
    session.invoke("Convert-VHD", Path=child, DestinationPath=other)
    assert read_all(Path(other)) == read_all(Path(child))
    for cmdlet, options in (
        ("New-VHD", {"Path": disk, "SizeBytes": 12 << 20}),
        ("Convert-VHD", {"Path": child, "DestinationPath": disk}),
    ):
        with pytest.raises(CmdletFailed) as caught:
            session.invoke(cmdlet, **options)  # type: ignore[arg-type]  # a mapping of options
        assert caught.value.hresult == 0x80070050
    with pytest.raises(CmdletFailed, match="not that of a virtual hard disk"):
        session.invoke("New-VHD", Path=str(tmp_path / "disk.img"), SizeBytes=12 << 20)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_zeros_are_taken_out_of_a_disk(session: Host, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"disk.{suffix}"
    make_disk(path, Shape("dynamic", 8 << 20, 1 << 20 if suffix == "vhdx" else 2 << 20))
    with WritableDisk(path) as disk:
        disk.write_at(0, b"\1" * (8 << 20))
        disk.write_at(0, bytes(6 << 20))
    content, size = read_all(path), path.stat().st_size
    (before,) = session.invoke("Get-VHD", Path=str(path), properties=KNOWN)
    (after,) = session.invoke("Optimize-VHD", Path=str(path), Passthru=True, properties=KNOWN)
    assert path.stat().st_size <= size - (6 << 20)
    assert read_all(path) == content
    assert after == {**before, "FileSize": path.stat().st_size}
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_a_mounted_child_holds_its_parent(session: Host, tmp_path: Path) -> None:
    """Others may read the parent, and mount it for that, but not write to it."""
    parent, child = tmp_path / "parent.vhdx", tmp_path / "child.vhdx"
    make_disk(parent, first_shape("vhdx", "dynamic", 512))
    make_child(child, parent)
    session.invoke("Mount-VHD", Path=str(child))
    with pytest.raises(CmdletFailed) as caught:
        session.invoke("Mount-VHD", Path=str(parent))
    assert caught.value.hresult == 0x80070020
    with pytest.raises(CmdletFailed, match="0x80070020"):
        session.invoke("Convert-VHD", Path=str(child), DestinationPath=str(tmp_path / "c.vhdx"))
    session.invoke("Dismount-VHD", Path=str(child))
    session.invoke("Mount-VHD", Path=str(parent))
    with pytest.raises(CmdletFailed):
        session.invoke("Mount-VHD", Path=str(child))
