"""Mutated inputs against every reader: only our own errors may come out, soon and in little memory.

`python -m tests.fuzz.harness [--seconds N] [--target NAME] [--seed N]`: without seconds until it is
interrupted. An input is a target and a number, so that every finding can be repeated. A mutated
input may take a second of processor time and 100 MB, one that was made to describe too much
(fixtures.bombs) two seconds and 200 MB.
"""

from __future__ import annotations

import argparse
import bz2
import math
import os
import random
import struct
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import TypeVar

from google_crc32c import value as crc32c

from fixtures import bombs, chains, journals, linux, overlays, signing
from fixtures.cabinets import LZX, MSZIP, write_cabinet
from fixtures.cache import cached, cached_folder
from fixtures.disks import MIB, format_ntfs, run
from fixtures.guests import SERVER_2008_R2, SERVER_2012_R2, GuestSpec, cached_guest
from fixtures.hives import RegistryText
from fixtures.packages import package_files
from imagetool.budget import Budget
from imagetool.contracts import Range, Source
from imagetool.disk import FileSource, MemorySource, open_disk, read_partitions
from imagetool.disk.local_files import LOCAL_FILES
from imagetool.disk.vhdx import Vhdx
from imagetool.errors import ImagetoolError
from imagetool.filesystem import Volume, open_volume
from imagetool.registry import Hive, Key

FOREIGN = Path(
    os.environ.get("IMAGETOOL_TESTDATA", Path(__file__).resolve().parents[3] / "shared/testdata")
)
MIB_OF_A_MUTATION, MIB_OF_A_BOMB = 100, 200
_MOST_ENTRIES = 60

T = TypeVar("T")


class TooSlow(BaseException):
    """The time of an input is over; a base exception, so that no reader swallows it."""


class Patched:
    """Bytes with others over them, as a source: what a mutation changes, not a copy of all."""

    def __init__(self, data: bytes, patches: Sequence[tuple[int, bytes]], size: int) -> None:
        self._data = data
        self._patches = patches
        self.size = size
        self.name = "input"
        self.budget = Budget()

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        found = self._data[offset : offset + length].ljust(length, b"\0")
        for place, patch in self._patches:
            first, last = max(place, offset), min(place + len(patch), offset + length)
            if first < last:
                piece = patch[first - place : last - place]
                found = found[: first - offset] + piece + found[last - offset :]
        return found

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many."""
        return [self.read_at(*item) for item in ranges]


@dataclass
class Target:
    """A reader: a sound input, what is asked of it, and what keeps checksums right."""

    name: str
    load: Callable[[], bytes]
    ask: Callable[[Source], None]
    repair: Callable[[Patched], list[tuple[int, bytes]]] = field(default=lambda source: [])
    span: int = 1 << 40
    """How many bytes from the start are changed."""
    seconds = 1.0
    memory = MIB_OF_A_MUTATION << 20

    @cached_property
    def data(self) -> bytes:
        """The sound input."""
        return self.load()

    @cached_property
    def places(self) -> list[int]:
        """The sectors that hold anything."""
        end = min(len(self.data), self.span)
        zeros = bytes(512)
        return [
            place
            for place in range(0, end, 512)
            if self.data[place : place + 512] != zeros[: min(512, len(self.data) - place)]
        ]

    def mutated(self, seed: int) -> Patched:
        """The input of that number."""
        noise = random.Random(f"{self.name}{seed}")
        size = len(self.data)
        if noise.random() < 0.1:
            size = noise.randrange(1, size)
        # Most changes lie close together: one structure has several fields to get wrong.
        near = noise.choice(self.places)
        patches = []
        for _ in range(noise.choice((1, 1, 2, 3, 5, 10, 30))):
            place = near if noise.random() < 0.7 else noise.choice(self.places)
            offset = place + noise.randrange(512)
            patches.append((offset, _change(noise, self.data, offset)))
        source = Patched(self.data, patches, size)
        if noise.random() < 0.9:
            return Patched(self.data, [*patches, *self.repair(source)], size)
        return source


@dataclass
class Bomb:
    """A reader, and a generator of inputs that describe far more than they hold."""

    name: str
    make: Callable[[random.Random], bytes]
    ask: Callable[[Source], None]
    seconds = 2.0
    memory = MIB_OF_A_BOMB << 20

    def mutated(self, seed: int) -> Patched:
        """The input of that number; of every second one a few bytes are changed."""
        noise = random.Random(f"{self.name}{seed}")
        data = self.make(noise)
        patches = []
        for _ in range(noise.choice((0, 1, 3)) if seed % 2 else 0):
            offset = noise.randrange(len(data))
            patches.append((offset, _change(noise, data, offset)))
        return Patched(data, patches, len(data))


_NUMBERS = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF)
_NUMBERS += (0x80000000, 0xFFFFFFFF, 1 << 32, 1 << 48, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


def _change(noise: random.Random, data: bytes, offset: int) -> bytes:
    kind = noise.randrange(5)
    if kind == 0:
        return bytes([noise.randrange(256)])
    if kind == 1:
        return bytes([data[offset] ^ 1 << noise.randrange(8)]) if offset < len(data) else b"\1"
    if kind == 2:
        width = noise.choice((1, 2, 4, 8))
        number = noise.choice(_NUMBERS) + noise.choice((0, 0, 1, -1)) & (1 << 8 * width) - 1
        return number.to_bytes(width, noise.choice(("little", "big")))
    if kind == 3:
        start = noise.randrange(max(1, len(data) - 64))
        return data[start : start + noise.randrange(1, 64)]
    return noise.randbytes(noise.randrange(1, 16))


# What is asked


def _walk(volume: Volume, folder: str = "", depth: int = 0) -> None:
    node = volume.find(folder)
    if node is None or not node.is_directory:
        return
    for entry, _ in zip(node.entries(), range(_MOST_ENTRIES), strict=False):
        path = f"{folder}/{entry.name}"
        try:
            found = volume.find(path)
            if found is None:
                continue
            if found.is_directory:
                if depth < 3:
                    _walk(volume, path, depth + 1)
                continue
            source = found.open()
            source.read_at(0, 1 << 16)
            source.read_at(max(0, source.size - 100), 4096)
        except ImagetoolError as error:
            assert error.message


def ask_volume(source: Source) -> None:
    """Walk a volume."""
    volume = open_volume(source)
    assert isinstance(volume.warnings, tuple)
    _walk(volume)


def ask_disk(source: Source) -> None:
    """Open a disk, list its partitions, read here and there."""
    disk = open_disk(source)
    list(zip(disk.allocated_ranges(), range(_MOST_ENTRIES), strict=False))
    read_partitions(disk)
    for place in (0, 1 << 20, disk.size // 2, disk.size - 512):
        disk.read_at(place, 1 << 16)


def ask_child(source: Source) -> None:
    """Read a differencing disk over its base."""
    with FileSource(cached_folder("chain", chains.build_chain) / "base.vhdx") as below:
        base = Vhdx(below)
        disk = Vhdx(source, lambda _: base)
        list(zip(disk.allocated_ranges(), range(_MOST_ENTRIES), strict=False))
        for place, _ in chains.CHILD_WRITES:
            disk.read_at(max(0, place - 4096), 1 << 16)


def ask_hive(source: Source) -> None:
    """Read every key of a hive."""
    hive = Hive(source)
    keys: list[tuple[Key, int]] = [(hive.root, 0)]
    count = 0
    while keys and count < 400:
        key, depth = keys.pop()
        count += 1
        try:
            for value in key.values()[:_MOST_ENTRIES]:
                assert isinstance(value.text(), str)
            assert key.last_written
            if depth < 8:
                for subkey, _ in zip(key.subkeys(), range(50), strict=False):
                    keys.append((subkey, depth + 1))
            key.subkey("Name")
        except ImagetoolError as error:
            assert error.message


def ask_logs(name: str) -> Callable[[Source], None]:
    """A question about a dirty hive with this log."""

    def ask(source: Source) -> None:
        hive = Hive(MemorySource((FOREIGN / name).read_bytes(), "hive"), lambda: [source])
        assert isinstance(hive.warnings, tuple)
        for key, _ in zip(hive.root.subkeys(), range(_MOST_ENTRIES), strict=False):
            key.values()

    return ask


class Opened:
    """A source as an open file."""

    warnings: tuple[str, ...] = ()
    name = path = "input"
    files = LOCAL_FILES

    def __init__(self, source: Source) -> None:
        self.size, self.budget = source.size, source.budget
        self.read_at = source.read_at
        self.read_many = source.read_many

    def gather(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        return [task() for task in tasks]

    def prefetch(self, tasks: Iterable[Callable[[], object]]) -> None:
        pass

    def close(self) -> None:
        pass


def ask_guest(source: Source) -> None:
    """Everything that a verdict reads."""
    from imagetool.guest.image import Image
    from imagetool.guest.inspection import inspect_image
    from imagetool.verdict.verify import verify

    image = Image(Opened(source))
    inspect_image(image)
    verify(image)


def ask_cabinet(source: Source) -> None:
    """Every member of a cabinet, and its package."""
    from imagetool.package.cab import Cabinet
    from imagetool.package.cbs import parse_package_manifest

    cabinet = Cabinet(source)
    for member in cabinet.members[:_MOST_ENTRIES]:
        try:
            cabinet.read(member)
        except ImagetoolError as error:
            assert error.message
    for member in cabinet.members[:_MOST_ENTRIES]:
        if member.name.lower() == "update.mum":
            parse_package_manifest(cabinet.read(member), "update.mum", source.budget)


def ask_catalog(source: Source) -> None:
    """A catalog, and who signed it."""
    from imagetool.package.signature.catalog import Catalog
    from imagetool.package.signature.certificates import Untrusted
    from imagetool.package.signature.chain import trust_for_windows
    from imagetool.package.signature.signed_data import Altered
    from imagetool.package.signature.verify import verify_signature

    catalog = Catalog.parse(source.read_at(0, source.size), "catalog")
    with suppress(Altered, Untrusted):
        verify_signature(catalog.signed_data, trust_for_windows())


def ask_key(source: Source) -> None:
    """The listing of a hive's root, and a key that is not there."""
    from imagetool.registry.listing import list_key

    root = Hive(source).root
    with suppress(ImagetoolError):
        root.find("A")
    with suppress(ImagetoolError):
        root.find("\\".join("a" * 5000))
    list_key(root, "")


def ask_map(source: Source) -> None:
    """The map of a disk, as `disk map` shows it."""
    from imagetool.guest.disk_map import map_disk
    from imagetool.guest.image import Image
    from imagetool.report import render

    render(map_disk(Image(Opened(source))), "text")


def ask_package(source: Source) -> None:
    """What `package show` and `package check` read of a cabinet."""
    from imagetool.package.media import package_in_cabinet
    from imagetool.package.signature.check import check_package

    package = package_in_cabinet(source.read_at(0, source.size), "package.cab")
    with suppress(ImagetoolError):
        package.components()
    check_package(package)


def ask_media(source: Source) -> None:
    """What `package show`, `list` and `check` read of a disc."""
    from imagetool.package import open_media
    from imagetool.package.signature.check import check_media
    from imagetool.package.summary import list_media, summarise_media

    with tempfile.NamedTemporaryFile(suffix=".iso") as file:
        for offset in range(0, source.size, MIB):
            file.write(source.read_at(offset, MIB))
        file.flush()
        with open_media(file.name) as media:
            list_media(media)
            summarise_media(media)
            check_media(media)
            if media.disc is not None:
                for item in media.disc.files[:50]:
                    with suppress(ImagetoolError):
                        media.disc.open(item).read_at(0, MIB)


def ask_logical_volumes(source: Source) -> None:
    """A physical volume and what lies on it."""
    from imagetool.filesystem.lvm import logical_volumes, read_physical_volume

    for volume in logical_volumes([read_physical_volume(source)]):
        volume.open().read_at(0, 4096)


# What keeps checksums right


def repair_vhdx(source: Patched) -> list[tuple[int, bytes]]:
    """The CRC-32C of both headers and both region tables."""
    patches = []
    for place, size in ((65536, 4096), (131072, 4096), (196608, 65536), (262144, 65536)):
        block = source.read_at(place, size)
        if len(block) == size:
            checksum = crc32c(block[:4] + bytes(4) + block[8:])
            patches.append((place + 4, checksum.to_bytes(4, "little")))
    return patches


def repair_gpt(source: Patched) -> list[tuple[int, bytes]]:
    """The checksums of the first partition table."""
    head = source.read_at(512, 92)
    if len(head) < 92:
        return []
    count, size = struct.unpack_from("<II", head, 80)
    place = struct.unpack_from("<Q", head, 72)[0] * 512
    entries = source.read_at(place, min(count * size, 1 << 20)) if place < 1 << 40 else b""
    head = head[:88] + struct.pack("<I", zlib.crc32(entries))
    check = zlib.crc32(head[:16] + bytes(4) + head[20:])
    return [(512 + 88, head[88:]), (512 + 16, check.to_bytes(4, "little"))]


def repair_hive(source: Patched) -> list[tuple[int, bytes]]:
    """The checksum of the base block."""
    from imagetool.registry.structs import checksum

    block = source.read_at(0, 512)
    return [(508, checksum(block).to_bytes(4, "little"))] if len(block) == 512 else []


def repair_vhdx_log(source: Patched) -> list[tuple[int, bytes]]:
    """Those of the headers, and of the entries in the log."""
    patches = repair_vhdx(source)
    for place in range(MIB, 2 * MIB, 4096):
        head = source.read_at(place, 12)
        if head[:4] == b"loge":
            entry = source.read_at(place, min(int.from_bytes(head[8:12], "little"), MIB))
            checksum = crc32c(entry[:4] + bytes(4) + entry[8:])
            patches.append((place + 4, checksum.to_bytes(4, "little")))
    return patches


def repair_hive_log(source: Patched) -> list[tuple[int, bytes]]:
    """The checksum of the log's base block, and the hashes of its entries."""
    from imagetool.registry.logs import marvin32

    patches = repair_hive(source)
    place = 512
    for _ in range(8):
        entry = source.read_at(place, 40)
        size = int.from_bytes(entry[4:8], "little")
        if entry[:4] != b"HvLE" or size < 512 or size > 1 << 18 or size % 4:
            break
        rest = source.read_at(place + 40, size - 40)
        if len(rest) != size - 40:
            break
        first = marvin32(rest).to_bytes(8, "little")
        patches.append((place + 24, first + marvin32(entry[:24] + first).to_bytes(8, "little")))
        place += size
    return patches


# Sound inputs


def _ntfs(path: Path) -> None:
    work = path.with_suffix(".files")
    work.mkdir()
    tree = work / "tree"
    linux.write_plain(tree)
    format_ntfs(path, 16 * MIB, MIB, "fuzz")
    from fixtures.disks import fill

    fill(path, tree, work)
    import shutil

    shutil.rmtree(work)


def _gpt(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(4 * MIB)
    rows = "label: gpt\nstart=2048, size=2048\nstart=4096, size=1024\n"
    run("sfdisk", "-q", path, text=rows)


def _mbr(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(8 * MIB)
    rows = "label: dos\nstart=2048, size=2048, type=7\nstart=4096, size=8192, type=5\n"
    run("sfdisk", "-q", path, text=rows + "start=4300, size=500\nstart=5000, size=500\n")


def _hive(path: Path) -> None:
    from fixtures.guests import INSTALLED

    text = RegistryText()
    for number in range(600):
        text.key(f"Classes\\Key{number:04}", {"Name": f"value {number}", "Data": number})
    text.key("Big", {"": b"x" * 40000, "List": ["a", "b"], "Name": "text"})
    with tempfile.TemporaryDirectory() as folder:
        text.write(path, Path(folder), INSTALLED)


def _xfs(*options: str) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder)
            linux.write_tree(tree, many=100, large=300_000)
            linux.make_xfs(path, tree, "-d", "agcount=1", *options, size=24 * MIB)

    return build


def _built(name: str, suffix: str, build: Callable[[Path], None]) -> Callable[[], bytes]:
    return lambda: cached(f"fuzz-{name}", suffix, build).read_bytes()


def _linux(name: str) -> Callable[[], bytes]:
    def load() -> bytes:
        with (cached_folder("linux-volumes", linux.build_volumes) / name).open("rb") as file:
            return file.read(24 * MIB)

    return load


def _disc(*options: str) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "tree/support/amd64"
            folder.mkdir(parents=True)
            cabinet = write_cabinet(package_files("6.2", "amd64"))
            (folder / "Windows6.2-HyperVIntegrationServices-x64.cab").write_bytes(cabinet)
            (folder / "link").symlink_to("../x86")
            for number in range(60):
                (folder / f"file {number}").write_bytes(b"x" * number)
            run("genisoimage", "-quiet", *options, "-o", path, Path(name) / "tree")

    return build


def _cabinet(method: int) -> Callable[[], bytes]:
    return lambda: write_cabinet(package_files("6.2", "amd64"), method)


def _catalog() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        signing.make_authority(folder)
        return signing.signed_files(folder, folder, package_files("6.2", "amd64"))["update.cat"]


def _volume(name: str, build: Callable[[Path], None], file: str) -> Callable[[], bytes]:
    return lambda: (cached_folder(name, build) / file).read_bytes()


def _journal(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    journals.write_with_debugfs(folder, 0, 1024, 64)


_chain = _volume("chain", chains.build_chain, "child.avhdx")
_LINUX = ("ext2", "ext4", "ext4-1k", "fat12", "fat32")
_XFS_4 = ("-m", "crc=0,finobt=0", "-i", "size=256", "-l", "size=8m")


def _guest(spec: GuestSpec) -> Callable[[], bytes]:
    return lambda: cached_guest(spec).read_bytes()


def _foreign() -> tuple[Target, ...]:
    """Logs that other systems wrote; where the foreign data is missing they are left out."""
    if not FOREIGN.is_dir():
        return ()
    new, old = "hive/yarp/NewDirtyHive1/NewDirtyHive", "hive/yarp/OldDirtyHive/OldDirtyHive"
    packed = FOREIGN / "disk/iotest-dirtylog-10G-4M.vhdx.bz2"

    def log(name: str) -> Target:
        load = (FOREIGN / f"{name}.LOG1").read_bytes
        return Target(f"log of {Path(name).name}", load, ask_logs(name), repair_hive_log)

    def load_disk() -> bytes:
        return bz2.decompress(packed.read_bytes())

    return (
        log(new),
        log(old),
        Target("vhdx-log", load_disk, ask_disk, repair_vhdx_log, 2 * MIB),
    )


TARGETS = (
    *_foreign(),
    Target("vhdx", _guest(SERVER_2012_R2), ask_disk, repair_vhdx, 4 * MIB),
    Target("vhd", _guest(SERVER_2008_R2), ask_disk, span=MIB),
    Target("child", _chain, ask_child, repair_vhdx, 8 * MIB),
    Target("gpt", _built("gpt", ".raw", _gpt), ask_disk, repair_gpt),
    Target("mbr", _built("mbr", ".raw", _mbr), ask_disk),
    Target("ntfs", _built("ntfs", ".raw", _ntfs), ask_volume),
    Target("compact", _built("compact", ".raw", overlays.build_volume), ask_volume),
    Target("hive", _built("hive", ".hive", _hive), ask_hive, repair_hive),
    Target("guest", _guest(SERVER_2012_R2), ask_guest, repair_vhdx),
    Target("cabinet", _cabinet(MSZIP), ask_cabinet),
    Target("cabinet-lzx", _cabinet(LZX), ask_cabinet),
    Target("catalog", _catalog, ask_catalog),
    Target("disc", _built("disc", ".iso", _disc("-J", "-R")), ask_media, span=MIB // 8),
    Target("disc-udf", _built("disc-udf", ".iso", _disc("-udf")), ask_media),
    Target("xfs-4", _built("xfs-4", ".raw", _xfs(*_XFS_4)), ask_volume),
    Target("xfs-5", _built("xfs-5", ".raw", _xfs("-l", "size=13m")), ask_volume),
    *(Target(name, _linux(name), ask_volume) for name in _LINUX),
    Target("ext4-journal", _volume("ext4-journal", _journal, "volume"), ask_volume),
)
BOMBS = (
    *(
        Bomb(f"bomb-{make.__name__}", make, ask_map)
        for make in (
            bombs.disks.vhdx_table,
            bombs.disks.vhdx_locator,
            bombs.disks.vhdx_log,
            bombs.disks.vhd_table,
            bombs.disks.volume_group,
            bombs.disks.groups,
        )
    ),
    *(
        Bomb(f"bomb-{make.__name__}", make, ask_key)
        for make in (
            bombs.hives.values,
            bombs.hives.subkeys,
            bombs.hives.segments,
            bombs.hives.hashes,
            bombs.hives.chain,
        )
    ),
    *(
        Bomb(f"bomb-{make.__name__}", make, ask_package)
        for make in (bombs.packages.members, bombs.packages.folder, bombs.packages.manifest)
    ),
    *(
        Bomb(f"bomb-{make.__name__}", make, ask_media)
        for make in (bombs.discs.directories, bombs.discs.packages, bombs.discs.continuations)
    ),
    *(
        Bomb(f"bomb-{make.__name__}", make, ask_volume)
        for make in (bombs.volumes.ext_directory, bombs.volumes.fat_chain)
    ),
    Bomb("bomb-catalog", bombs.packages.signed_list, ask_catalog),
)


EVERYTHING = (*TARGETS, *BOMBS)

# The run


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """A limit on processor time: a signal ends the reader between two steps of Python."""
    import signal

    def over(*_: object) -> None:
        raise TooSlow

    previous = signal.signal(signal.SIGPROF, over)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def limit_memory(more: int) -> None:
    """Let this process have so many bytes beyond what it has now."""
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    size = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))


def try_one(target: Target | Bomb, seed: int) -> str:
    """What is wrong with an input; empty where only our own errors came out."""
    limit_memory(1 << 30)
    source = target.mutated(seed)
    limit_memory(target.memory)
    try:
        with _limited(target.seconds):
            target.ask(source)
    except ImagetoolError as error:
        return "" if error.exit_code in (1, 2, 3) and error.message else f"exit {error.exit_code}"
    except TooSlow as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"takes longer than {target.seconds} s ({Path(where.filename).name}:{where.lineno})"
    except MemoryError:
        return f"takes more than {target.memory >> 20} MB"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
    return ""


def fuzz(
    targets: Sequence[Target | Bomb], seeds: Iterable[int], seconds: float = math.inf
) -> tuple[int, int]:
    """Try each target with each seed until the time is over; count the inputs and the findings."""
    for target in targets:
        assert isinstance(target, Bomb) or target.places, target.name
    inputs = findings = 0
    end = time.monotonic() + seconds
    try:
        for seed, target in ((seed, target) for seed in seeds for target in targets):
            if time.monotonic() >= end:
                break
            inputs += 1
            found = try_one(target, seed)
            if found:
                findings += 1
                print(f"{target.name} {seed}: {found}", flush=True)
    except KeyboardInterrupt:
        pass
    return inputs, findings


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="how long; without it until interrupted"
    )
    parser.add_argument("--rounds", type=int, help="how many inputs of each target")
    parser.add_argument("--target", choices=[target.name for target in EVERYTHING])
    parser.add_argument("--seed", type=int, help="this input alone, with its traceback")
    options = parser.parse_args()
    targets = [item for item in EVERYTHING if options.target in (None, item.name)]
    if options.seed is not None:
        for target in targets:
            target.ask(target.mutated(options.seed))
        return
    first = random.SystemRandom().randrange(1 << 32)
    seeds = count(first) if options.rounds is None else range(first, first + options.rounds)
    inputs, findings = fuzz(targets, seeds, options.seconds)
    print(f"inputs {inputs}, findings {findings}")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
