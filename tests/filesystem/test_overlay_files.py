"""Files of the Windows overlay filter against wimlib, 7-Zip and libfsntfs, and against damage."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.disks import format_ntfs
from fixtures.overlays import METHODS, OverlayFile, compress, point, stored, write
from imagetool.budget import Budget
from imagetool.compression import xpress
from imagetool.compression.lzx import LzxChunk
from imagetool.disk import FileSource, MemorySource
from imagetool.errors import Corrupt, ImagetoolError, Unsupported
from imagetool.filesystem.ntfs import Ntfs, wof
from imagetool.filesystem.ntfs.wof import ALGORITHMS, WofData
from tests.conftest import missing

Oracle = Callable[[str], str]
MIB = 1 << 20


def text(size: int) -> bytes:
    noise = random.Random(size)
    words = [bytes(noise.choices(range(97, 123), k=noise.randint(2, 9))) for _ in range(500)]
    made = bytearray()
    while len(made) < size:
        made += noise.choice(words) + noise.choice((b" ", b" ", b", ", b".\r\n"))
    return bytes(made[:size])


def calls(size: int) -> bytes:
    """E8 everywhere, the last bytes of a chunk among them; targets at every edge."""
    noise = random.Random(8)
    edges = (0, 1, -1, 11_999_999, 12_000_000, -12_000_000, 0x7FFFFFFF, -0x80000000)
    made = bytearray()
    while len(made) < size:
        near = noise.choice(edges) + noise.randint(-40_000, 40_000)
        made += bytes(noise.randint(0, 3)) + b"\xe8" * noise.randint(1, 3)
        made += (near & 0xFFFFFFFF).to_bytes(4, "little")
    return bytes(made[:size])


def contents() -> dict[str, bytes]:
    noise = random.Random(17)
    files = {
        "program": Path("/bin/bash").read_bytes(),
        "text": text(MIB),
        "zeros": bytes(MIB),
        "random": noise.randbytes(200_000),
        "mixed": b"".join(
            noise.randbytes(5000) + text(9000 + n) + bytes(3000) + noise.randbytes(33_000)
            for n in range(12)
        ),
        "runs": b"".join(bytes([n]) * n * 300 for n in range(1, 90)),
        "pairs": bytes(noise.choices(b"ab", k=100_000)),
        "skewed": bytes(noise.choices(range(64), [2.0**-n for n in range(64)], k=300_000)),
        "calls": calls(100_000),
        "empty": b"",
        "one": b"x",
    }
    for size in (4096, 8192, 16384, 32768):
        for more in (-1, 0, 1, 9, 10, 11):
            files[f"size {size + more}"] = text(size + more)
            files[f"calls {size + more}"] = calls(size + more)
    return files


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    if not Path("/bin/bash").is_file():
        missing("/bin/bash")
    return contents()


@pytest.fixture(scope="module")
def streams(
    oracle: Oracle, files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, bytes]]:
    oracle("wimlib-imagex")
    work = tmp_path_factory.mktemp("streams")
    return {method: compress(files, method, work) for method in METHODS}


def opened(stream: bytes, size: int, method: str, name: str = "made") -> WofData:
    algorithm = ALGORITHMS[METHODS[method][0]]
    assert (algorithm.name, algorithm.chunk_size) == (method, METHODS[method][2])
    return WofData(MemorySource(stream, name), size, algorithm, name)


def content_of(data: WofData | MemorySource) -> bytes:
    return data.read_at(0, data.size)


@pytest.mark.parametrize("method", METHODS)
def test_what_wimlib_compressed_comes_back(
    files: dict[str, bytes], streams: dict[str, dict[str, bytes]], method: str
) -> None:
    packed = 0
    for name, data in files.items():
        stream = streams[method][name]
        packed += len(stream) < len(data)
        assert content_of(opened(stream, len(data), method, name)) == data, name
    assert packed > 30  # so it was not stored


@pytest.mark.parametrize("method", METHODS)
def test_7_zip_agrees_on_what_wimlib_compressed(
    oracle: Oracle, files: dict[str, bytes], tmp_path: Path, method: str
) -> None:
    oracle("wimlib-imagex")
    some = {name: data for name, data in files.items() if "calls" in name or name == "mixed"}
    packed = compress(some, method, tmp_path)
    command = [oracle("7z"), "x", f"-o{tmp_path / 'out'}", tmp_path / f"{method}-50.wim"]
    subprocess.run(command, check=True, capture_output=True)
    for name, data in some.items():
        foreign = (tmp_path / "out" / name).read_bytes()
        assert content_of(opened(packed[name], len(data), method, name)) == foreign == data


@pytest.mark.parametrize("level", [1, 20, 100])
@pytest.mark.parametrize("method", ["XPRESS16K", "LZX"])
def test_other_levels_make_other_blocks(
    oracle: Oracle, files: dict[str, bytes], tmp_path: Path, method: str, level: int
) -> None:
    oracle("wimlib-imagex")
    some = {name: files[name] for name in ("program", "mixed", "skewed", "runs", "calls")}
    for name, stream in compress(some, method, tmp_path, level).items():
        assert content_of(opened(stream, len(some[name]), method, name)) == some[name]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from(sorted(METHODS)),
    st.lists(st.tuples(st.integers(-5, 550_000), st.integers(-5, 90_000)), max_size=4),
)
def test_any_reads_equal_slices(
    files: dict[str, bytes],
    streams: dict[str, dict[str, bytes]],
    method: str,
    ranges: list[tuple[int, int]],
) -> None:
    whole = files["mixed"]
    data = opened(streams[method]["mixed"], len(whole), method)
    expected = [whole[o : o + n] if o >= 0 and n > 0 else b"" for o, n in ranges]
    assert data.read_many(ranges) == expected
    assert [data.read_at(*item) for item in ranges] == expected


class Counted(MemorySource):
    """Counts batches and bytes."""

    batches = bytes = 0

    def read_many(self, ranges: list[tuple[int, int]]) -> list[bytes]:  # type: ignore[override]
        self.batches += 1
        self.bytes += sum(length for _, length in ranges)
        return super().read_many(ranges)


@pytest.mark.parametrize("method", METHODS)
def test_only_the_chunks_that_are_touched_are_read(
    files: dict[str, bytes], streams: dict[str, dict[str, bytes]], method: str
) -> None:
    whole = files["program"]
    stream = Counted(streams[method]["program"])
    algorithm = ALGORITHMS[METHODS[method][0]]
    data = WofData(stream, len(whole), algorithm, "made")
    ranges = [(900_000, 10), (5, 10), (900_020, 10), (700_000, 10)]
    assert data.read_many(ranges) == [whole[o : o + n] for o, n in ranges]
    assert stream.batches == 2  # the table, the chunks
    assert stream.bytes <= len(whole) // algorithm.chunk_size * 4 + 4 * algorithm.chunk_size
    before = stream.bytes
    assert data.read_many(ranges) == [whole[o : o + n] for o, n in ranges]
    assert (stream.batches, stream.bytes) == (2, before)


def test_the_cache_is_bounded() -> None:
    plain = random.Random(3).randbytes(3 * MIB)
    data = opened(stored(plain, 4096), len(plain), "XPRESS4K")
    for offset in range(0, len(plain), 100_000):
        assert data.read_at(offset, 100_000) == plain[offset : offset + 100_000]
    assert content_of(data) == plain
    assert len(data._chunks._items) <= 256
    assert len(data._pages._items) <= 64


class Sparse:
    """A stream of more than 4 GiB: its table, then chunks that are all alike."""

    name = "sparse"

    def __init__(self, count: int, chunk: int) -> None:
        self.count, self.chunk = count, chunk
        self.budget = Budget()
        self.size = 8 * (count - 1) + count * chunk

    def read_at(self, offset: int, length: int) -> bytes:
        table = 8 * (self.count - 1)
        if offset >= table:
            return bytes((n % 251) for n in range(offset - table, offset - table + length))
        assert offset % 8 == 0 and length % 8 == 0
        first = offset // 8 + 1
        numbers = range(first, first + length // 8)
        return struct.pack(f"<{len(numbers)}Q", *(n * self.chunk for n in numbers))

    def read_many(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        return [self.read_at(*item) for item in ranges]


def test_beyond_4_gib_the_offsets_have_64_bits() -> None:
    count = (1 << 32) // 32768 + 3
    data = WofData(Sparse(count, 32768), count * 32768, wof.LZX, "large")
    for offset in (0, 32760, (1 << 32) - 9, data.size - 20):
        expected = bytes(n % 251 for n in range(offset, min(offset + 20, data.size)))
        assert data.read_at(offset, 20) == expected
    exactly = (1 << 32) - 1
    assert WofData(Sparse(count, 32768), exactly, wof.LZX, "small")._entry_size == 4


def test_lzx_blocks_that_are_not_compressed() -> None:
    """By hand from [MS-PATCH] and [MS-WIM]: block type 3, a size of 16 bits, odd ones padded."""

    def header(size: int) -> bytes:
        return words(f"{3:03b}0{size:016b}")

    recent = (1).to_bytes(4, "little") * 3
    data = header(5) + recent + b"abcde" + b"\0" + header(4) + recent + b"1234"
    assert LzxChunk("made").decode(data, 9) == b"abcde1234"
    whole = bytes(range(256)) * 128
    data = words(f"{3:03b}1") + recent + whole
    assert LzxChunk("made").decode(data, 32768) == whole


# In a volume


@pytest.fixture(scope="module")
def volume(
    oracle: Oracle,
    files: dict[str, bytes],
    streams: dict[str, dict[str, bytes]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    import ctypes.util

    oracle("mkntfs")
    if ctypes.util.find_library("ntfs-3g") is None:
        missing("the library libntfs-3g")
    path = tmp_path_factory.mktemp("volume") / "volume"
    format_ntfs(path, 96 * MIB, 0, "overlay")
    wanted = ("program", "text", "zeros", "random", "mixed", "calls", "one", "size 32769")
    write(
        path,
        [
            OverlayFile(f"{method} {name}", len(files[name]), streams[method][name], point(number))
            for method, (number, _, _) in METHODS.items()
            for name in wanted
        ]
        + [
            OverlayFile("empty", 0, None, point(0)),
            OverlayFile("lost", 5000, None, point(0)),
            OverlayFile("wim", 5000, None, point(0, provider=1)),
            OverlayFile("cloud", 5000, None, point(0, provider=9)),
            OverlayFile("new", 5000, b"x" * 5000, point(7)),
            OverlayFile("later", 5000, b"x" * 5000, point(0, version=2)),
            OverlayFile("short", 500_000, b"x" * 50, point(0)),
        ],
    )
    return path


# libfsntfs refuses a stream of one chunk that is stored; libfwnt trees of LZX without any code, and
# of some programs (that of Debian 13 among them) it puts other bytes in the place of a call's.
ONLY_OURS = {"LZX mixed", "LZX calls", "LZX program", *(f"{method} one" for method in METHODS)}


def test_files_in_a_volume_read_as_libfsntfs_reads_them(
    volume: Path, files: dict[str, bytes]
) -> None:
    import pyfsntfs

    foreign = pyfsntfs.volume()
    foreign.open(str(volume))
    with FileSource(volume) as source:
        ntfs = Ntfs(source)
        names = [entry.name for entry in ntfs.lookup("").entries()]
        compared = 0
        for name in names:
            method, _, which = name.partition(" ")
            if method not in METHODS:
                continue
            node = ntfs.lookup(name)
            data = node.open()
            assert isinstance(data, WofData)
            assert node.size == data.size == len(files[which])
            ours = content_of(data)
            assert ours == files[which], name
            if name in ONLY_OURS:
                continue
            entry = foreign.get_file_entry_by_path("\\" + name)
            assert entry.read_buffer_at_offset(len(ours), 0) == ours, name
            compared += 1
        assert compared == 8 * len(METHODS) - len(ONLY_OURS)
        assert ntfs.lookup("empty").open().size == 0


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("lost", Corrupt, "no stream WofCompressedData"),
        ("wim", Unsupported, "WIM archive"),
        ("cloud", Unsupported, "provider 9"),
        ("new", Unsupported, "algorithm 7"),
        ("later", Unsupported, "version 2.1"),
        ("short", Corrupt, "123 compressed chunks in a stream of 50 bytes"),
    ],
)
def test_what_cannot_be_read_is_said(
    volume: Path, name: str, error: type[ImagetoolError], words: str
) -> None:
    with FileSource(volume) as source, pytest.raises(error, match=words) as caught:
        Ntfs(source).lookup(name).open()
    assert caught.value.exit_code == 3
    assert caught.value.hint


# Damage


@pytest.mark.parametrize("table", [(0, 9), (9, 9), (9, 8), (5000, 5001), (1, 0xFFFFFFFF)])
def test_chunks_that_lie_wrongly_are_named(table: tuple[int, int]) -> None:
    stream = struct.pack("<II", *table) + bytes(9000)
    with pytest.raises(Corrupt, match=r"made: chunk \d lies at"):
        content_of(opened(stream, 10_000, "XPRESS4K"))


def test_a_size_beyond_all_bounds_is_refused_before_anything_is_read() -> None:
    with pytest.raises(Corrupt, match="compressed chunks in a stream of 100 bytes"):
        opened(bytes(100), (1 << 63) - 1, "LZX")


@pytest.mark.parametrize("length", [1, 3, 14])
def test_a_long_length_that_is_too_short_is_damage(length: int) -> None:
    """By hand from [MS-XCA] 2.2.4: a literal and a match of symbol 271, one bit each."""
    lengths = bytearray(256)
    lengths[0x41 // 2] |= 1 << 4
    lengths[271 // 2] |= 1 << 4
    words = struct.pack("<HH", 0b0100_0000_0000_0000, 0)
    good = bytes(lengths) + words + b"\xff" + struct.pack("<H", 96)
    assert xpress.decompress(good, 100, "made") == b"A" * 100
    longer = bytes(lengths) + words + b"\xff\0\0" + struct.pack("<I", 96)
    assert xpress.decompress(longer, 100, "made") == b"A" * 100
    with pytest.raises(Corrupt, match="made: damaged Xpress"):
        xpress.decompress(good[:-2] + struct.pack("<H", length), length + 4, "made")
    with pytest.raises(Corrupt, match="made: damaged Xpress"):
        xpress.decompress(good[:-4], 100, "made")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_damage_ends_in_our_errors_only_and_soon(
    files: dict[str, bytes], streams: dict[str, dict[str, bytes]], data: st.DataObject
) -> None:
    method = data.draw(st.sampled_from(sorted(METHODS)))
    name = data.draw(st.sampled_from(["mixed", "runs", "calls", "pairs", "size 32769"]))
    stream = bytearray(streams[method][name])
    for _ in range(data.draw(st.integers(1, 40))):
        place = data.draw(st.integers(0, min(len(stream), data.draw(st.integers(1, 600_000))) - 1))
        stream[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([len(stream), len(stream) // 2, len(stream) - 1]))
    size = len(files[name])
    size = data.draw(st.sampled_from([size, size, size + 1, 2 * size, 1 << 40]))
    began = time.process_time()
    try:
        found = opened(bytes(stream[:cut]), size, method, "damaged")
    except ImagetoolError as error:
        assert isinstance(error, Corrupt) and error.hint
        assert "damaged" in str(error)
        return
    # Each chunk for itself, so that the damage of one does not hide that of the others.
    for offset in range(0, min(size, 600_000), METHODS[method][2]):
        try:
            assert len(found.read_at(offset, 4096)) == min(4096, size - offset)
        except ImagetoolError as error:
            assert isinstance(error, Corrupt) and error.hint
            assert "damaged" in str(error)
    assert time.process_time() - began < 1


def words(bits: str) -> bytes:
    """Bits as words of 16, the highest first."""
    bits += "0" * (-len(bits) % 16)
    return b"".join(int(bits[n : n + 16], 2).to_bytes(2, "little") for n in range(0, len(bits), 16))


def lzx_of_tiny_blocks() -> bytes:
    """Blocks of one byte, each with trees of its own."""

    def tree(other: int) -> str:
        return "".join("0001" if symbol in (18, other) else "0000" for symbol in range(20))

    def zeros(code: str, total: int) -> str:
        """Code 18, as often as it takes: 20 to 51 zeros each."""
        most, rest = divmod(total, 51)
        return f"{code}{31:05b}" * most + (f"{code}{rest - 20:05b}" if rest else "")

    def block(other: int) -> str:
        # Code 16 makes a length of 0 one of 1, code 0 leaves it. Of two codes of one bit the
        # smaller symbol has 0.
        head = f"{1:03b}0{1:016b}" + tree(other) + "0" + zeros("1", 255)
        return head + tree(19) + zeros("0", 240) + tree(19) + zeros("0", 249) + "0"

    return words(block(16) + block(0) * 740)[:32760]


def lzx_of_tiny_stored_blocks() -> bytes:
    """Blocks of one byte, each with its three offsets."""
    head = words(f"{3:03b}0{1:016b}")
    return (head + (1).to_bytes(4, "little") * 3 + b"x\0") * 1820


@pytest.mark.parametrize("make", [lzx_of_tiny_blocks, lzx_of_tiny_stored_blocks])
def test_the_most_expensive_chunks_end_within_a_second(make: Callable[[], bytes]) -> None:
    data = make()
    chunk = LzxChunk("made")
    began = time.process_time()
    with pytest.raises(Corrupt, match="made: damaged"):
        chunk.decode(data, 32768)
    assert time.process_time() - began < 1
    assert len(chunk._history) > 700  # all blocks but the last were sound


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=700), st.integers(0, 32768), st.booleans())
def test_any_bytes_end_in_our_errors_only(data: bytes, size: int, lzx: bool) -> None:
    algorithm = wof.LZX if lzx else wof.XPRESS16K
    try:
        assert len(algorithm.decompress(data, size, "noise")) == size
    except Corrupt as error:
        assert "noise" in str(error) and error.hint


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=40))
def test_any_reparse_point_ends_in_our_errors_only(data: bytes) -> None:
    try:
        assert wof.read_algorithm(data, "noise") in ALGORITHMS
    except ImagetoolError as error:
        assert "noise" in str(error) and error.hint


def test_the_volume_is_sound_for_ntfs_3g(oracle: Oracle, volume: Path, tmp_path: Path) -> None:
    copy = tmp_path / "volume"
    shutil.copyfile(volume, copy)
    done = subprocess.run([oracle("ntfsfix"), "-n", copy], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
