"""Cabinets against cabextract, 7-Zip and bsdtar, and against damage."""

from __future__ import annotations

import hashlib
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures.cabinets import LZX, MSZIP, STORED, write_cabinet
from fixtures.packages import write_packages
from imagetool.disk import FileSource, MemorySource
from imagetool.errors import Corrupt, ImagetoolError, NotFound, NotRecognised, Unsupported
from imagetool.package.cab import Cabinet
from imagetool.package.media import open_media
from tests.program import refused, run

Oracle = Callable[[str], str]
LZX_SMALL = 0x0F03  # the smallest window


def opened(path: Path) -> Cabinet:
    return Cabinet(FileSource(path))


def extracted(oracle: Oracle, program: str, cabinet: Path, target: Path) -> dict[str, bytes]:
    """The files of a cabinet as another program extracts them."""
    target.mkdir()
    command = {
        "cabextract": ["cabextract", "-q", "-d", target, cabinet],
        "7z": ["7z", "x", "-y", f"-o{target}", cabinet],
        "bsdtar": ["bsdtar", "-xf", cabinet, "-C", target],
    }[program]
    subprocess.run([oracle(program), *command[1:]], check=True, capture_output=True)
    return {
        file.relative_to(target).as_posix(): file.read_bytes()
        for file in target.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize("name", ["normal_2files_2folders", "reserve_H-D"])
def test_foreign_cabinets_of_every_method_read_as_cabextract_reads_them(
    testdata: Path, oracle: Oracle, tmp_path: Path, name: str
) -> None:
    path = testdata / f"cab/libmspack/{name}.cab"
    cabinet = opened(path)
    ours = {member.name: cabinet.read(member) for member in cabinet.members}
    assert ours == extracted(oracle, "cabextract", path, tmp_path / "out")


def test_quantum_is_refused_by_name_and_the_others_come_out(testdata: Path) -> None:
    cabinet = opened(testdata / "cab/libmspack/mszip_lzx_qtm.cab")
    digest = hashlib.sha256(cabinet.read("lzx.txt")).hexdigest()
    assert digest == "e978598104671296857e0543f4280f4d4e0506dd3cad5162e9f2a4f604fafc78"
    assert cabinet.read("mszip.txt")
    with pytest.raises(Unsupported, match="Quantum"):
        cabinet.read("qtm.txt")


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("multi_basic_pt1", Unsupported, "another cabinet of its set"),
        ("multi_basic_pt5", Unsupported, "another cabinet of its set"),
        ("partial_str_nofname", Corrupt, "134"),
        ("bad_signature", NotRecognised, "no cabinet"),
        ("cve-2010-2800-mszip-infinite-loop", Corrupt, "instead of 16"),
        ("cve-2014-9732-folders-segfault", Corrupt, "at most 0 bytes"),
    ],
)
def test_broken_cabinets_end_in_a_sentence(
    testdata: Path, name: str, error: type[ImagetoolError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        cabinet = opened(testdata / f"cab/libmspack/{name}.cab")
        for member in cabinet.members:
            cabinet.read(member)
    assert caught.value.exit_code == 3


def test_names_in_utf_8_are_kept(testdata: Path) -> None:
    names = [m.name for m in opened(testdata / "cab/libmspack/utf8-stresstest.cab").members]
    assert len(names) == 79
    assert any(not name.isascii() for name in names)


@pytest.mark.parametrize("label", ["6.2-x64", "6.2-x86", "6.x-x64", "6.x-x86"])
def test_every_member_of_the_real_packages(real_packages: Path, testdata: Path, label: str) -> None:
    family, architecture = label.split("-")
    name = f"windows{family}-hypervintegrationservices-{architecture}.cab"
    lines = (testdata / f"truth/cab/{name}.sha256").read_text("utf-8").splitlines()
    truth = {line[66:].strip().removeprefix("./"): line[:64] for line in lines}
    cabinet = opened(real_packages / name)
    cabinet.read("update.mum")
    decompressed = sum(len(folder._kept) for folder in cabinet._folders)
    assert decompressed <= 131072  # identifying it takes no more
    ours = {m.name: hashlib.sha256(cabinet.read(m)).hexdigest() for m in cabinet.members}
    assert ours == truth
    assert cabinet.signature_range == (FileSource(real_packages / name).size - 15576, 15576)


@pytest.mark.parametrize("method", [STORED, MSZIP, LZX, LZX_SMALL])
@pytest.mark.parametrize("program", ["cabextract", "7z", "bsdtar"])
def test_our_cabinets_come_out_of_foreign_programs_and_of_ours_alike(
    oracle: Oracle, tmp_path: Path, method: int, program: str
) -> None:
    noise = random.Random(9)
    files = {"a/b.bin": noise.randbytes(70_000), "text.txt": b"abc" * 30_000, "empty": b""}
    path = tmp_path / "made.cab"
    path.write_bytes(write_cabinet(files, method, signature=b"signature"))
    cabinet = opened(path)
    assert {member.name: cabinet.read(member) for member in cabinet.members} == files
    assert extracted(oracle, program, path, tmp_path / "out") == files
    assert cabinet.signature_range == (path.stat().st_size - 9, 9)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    st.dictionaries(
        st.text("abcdefgh/", min_size=1, max_size=12), st.binary(max_size=3000), max_size=8
    ),
    st.sampled_from([STORED, MSZIP, LZX, LZX_SMALL]),
    st.integers(1, 40),
)
def test_any_files_come_back(files: dict[str, bytes], method: int, times: int) -> None:
    files = {name: data * times for name, data in files.items()}
    cabinet = Cabinet(MemorySource(write_cabinet(files, method)))
    assert {member.name: cabinet.read(member) for member in cabinet.members} == files


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    files=st.dictionaries(
        st.text("abcdefgh", min_size=1, max_size=8),
        st.builds(
            lambda data, times, seed: data * times + random.Random(seed).randbytes(seed),
            st.binary(max_size=300),
            st.integers(1, 300),
            st.integers(0, 3000),
        ),
        min_size=1,
        max_size=6,
    ),
    method=st.sampled_from([STORED, MSZIP, LZX, LZX_SMALL]),
    program=st.sampled_from(["cabextract", "7z", "bsdtar"]),
)
def test_any_files_come_out_of_any_program(
    oracle: Oracle,
    tmp_path_factory: pytest.TempPathFactory,
    files: dict[str, bytes],
    method: int,
    program: str,
) -> None:
    folder = tmp_path_factory.mktemp("any")
    path = folder / "any.cab"
    path.write_bytes(write_cabinet(files, method))
    assert extracted(oracle, program, path, folder / "out") == files


@pytest.mark.parametrize("program", ["cabextract", "7z", "bsdtar"])
def test_the_look_alikes_come_out_of_every_program(
    oracle: Oracle, tmp_path: Path, program: str
) -> None:
    for path in write_packages(tmp_path):
        with open_media(path) as media:
            assert media.cabinet is not None
            ours = {item.name: media.cabinet.read(item) for item in media.cabinet.members}
        assert extracted(oracle, program, path, tmp_path / path.stem) == ours
        assert len(ours) > 50


@pytest.fixture
def parts(testdata: Path, tmp_path: Path) -> Path:
    """A set of five cabinets under the names that they know each other by."""
    for number in range(1, 6):
        source = testdata / f"cab/libmspack/multi_basic_pt{number}.cab"
        (tmp_path / f"cabd_multi_basic_pt{number}.cab").write_bytes(source.read_bytes())
    return tmp_path


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_set_is_read_from_any_of_its_parts(parts: Path, oracle: Oracle, number: int) -> None:
    truth = extracted(oracle, "cabextract", parts / "cabd_multi_basic_pt1.cab", parts / "out")
    with open_media(parts / f"cabd_multi_basic_pt{number}.cab") as media:
        assert media.cabinet is not None
        found = {member.name: media.cabinet.read(member) for member in media.cabinet.members}
    assert found == truth
    assert len(found) == 3


def test_the_parts_of_a_set_are_found_in_any_case_of_letters(parts: Path, oracle: Oracle) -> None:
    truth = extracted(oracle, "cabextract", parts / "cabd_multi_basic_pt1.cab", parts / "out")
    for number in range(2, 6):
        part = parts / f"cabd_multi_basic_pt{number}.cab"
        part.rename(parts / f"Cabd_MULTI_basic_Pt{number}.CAB")
    with open_media(parts / "cabd_multi_basic_pt1.cab") as media:
        assert media.cabinet is not None
        found = {member.name: media.cabinet.read(member) for member in media.cabinet.members}
    assert found == truth


def test_a_set_with_a_part_missing_or_foreign_is_said(parts: Path) -> None:
    (parts / "cabd_multi_basic_pt3.cab").unlink()
    with open_media(parts / "cabd_multi_basic_pt1.cab") as media:
        assert media.cabinet is not None
        with pytest.raises(Unsupported, match="in another cabinet of its set"):
            media.cabinet.read("test1.txt")
    five = (parts / "cabd_multi_basic_pt5.cab").read_bytes()
    (parts / "cabd_multi_basic_pt3.cab").write_bytes(five)
    with pytest.raises(Corrupt, match="is not part 3 of the set"):
        open_media(parts / "cabd_multi_basic_pt1.cab").close()


def test_what_can_be_read_comes_out_and_of_a_damaged_cabinet_nothing(
    testdata: Path, tmp_path: Path
) -> None:
    source = testdata / "cab/libmspack/mszip_lzx_qtm.cab"
    done = run("package", "extract", source, tmp_path / "some")
    assert done.returncode == 3
    assert "Quantum" in done.stderr
    assert sorted(path.name for path in (tmp_path / "some").iterdir()) == ["lzx.txt", "mszip.txt"]
    path = tmp_path / "damaged.cab"
    data = bytearray(write_cabinet({"a/b": b"x" * 70_000, "c": b"y" * 70_000}, LZX))
    data[-20] ^= 255
    path.write_bytes(data)
    assert "wrong checksum" in refused(3, "package", "extract", path, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_changed_byte_is_found_by_the_checksum() -> None:
    data = bytearray(write_cabinet({"a": b"x" * 1000}, STORED))
    data[-5] ^= 1
    with pytest.raises(Corrupt, match="wrong checksum"):
        Cabinet(MemorySource(bytes(data))).read("a")


def test_a_member_that_is_not_there_is_named() -> None:
    with pytest.raises(NotFound, match="no file none"):
        Cabinet(MemorySource(write_cabinet({"a": b"x"}))).read("none")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_damage_ends_in_our_errors_only(testdata: Path, data: st.DataObject) -> None:
    names = ["normal_2files_2folders", "mszip_lzx_qtm", "reserve_H-D", "multi_basic_pt2"]
    path = testdata / f"cab/libmspack/{data.draw(st.sampled_from(names))}.cab"
    cabinet = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(cabinet) - 1))
        cabinet[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    # Checksums of zero are not checked: the decoders have to see the damage.
    if data.draw(st.booleans()):
        cabinet = bytearray(bytes(cabinet).replace(b"[\x80", b"\0\0"))
    cut = data.draw(st.sampled_from([len(cabinet), len(cabinet) // 2]))
    try:
        found = Cabinet(MemorySource(bytes(cabinet[:cut]), "damaged"))
        for member in found.members:
            try:
                found.read(member)
            except ImagetoolError as error:
                assert error.exit_code in (1, 3)
    except ImagetoolError as error:
        assert "damaged" in str(error)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.binary(max_size=400), st.integers(15, 21), st.integers(1, 32768))
def test_lzx_of_any_bytes_ends_in_our_errors_only(data: bytes, window: int, size: int) -> None:
    from imagetool.compression.lzx import LzxDecoder

    try:
        assert len(LzxDecoder(window, "noise").decode(data, size)) == size
    except Corrupt as error:
        assert "noise" in str(error)


def test_lzx_blocks_that_are_not_compressed_have_odd_lengths_too() -> None:
    """By hand from [MS-PATCH]: no translation, block type 3, 5 bytes, a byte behind it, 4 bytes."""
    from imagetool.compression.lzx import LzxDecoder

    def header(size: int, first: bool) -> bytes:
        bits = ("0" if first else "") + f"{3:03b}{size:024b}"
        bits += "0" * (-len(bits) % 16)
        words = [int(bits[place : place + 16], 2) for place in range(0, len(bits), 16)]
        return b"".join(word.to_bytes(2, "little") for word in words)

    recent = (1).to_bytes(4, "little") * 3
    data = header(5, True) + recent + b"abcde" + b"\0" + header(4, False) + recent + b"1234"
    assert LzxDecoder(15, "made").decode(data, 9) == b"abcde1234"
    split = LzxDecoder(15, "made")
    first = header(5, True) + recent + b"abcde" + b"\0"
    assert split.decode(first, 5) == b"abcde"
    assert split.decode(header(4, False) + recent + b"1234", 4) == b"1234"
