"""`python -m benchmarks.run`: a table of ratios, and benchmarks/latest.json.

Absolute times differ from machine to machine and from minute to minute, so every limit is on a
ratio, or on a count, and everything that is compared is measured in one run. Exits 1 where a limit
is missed.
"""

from __future__ import annotations

import compileall
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks import floor, packages, winrm, wire
from benchmarks.guest import VERSION, cached_disk, crowded_disk, fleet
from imagetool import read_registry_value
from imagetool.disk import local_files

KEY = "HKLM\\SOFTWARE\\Microsoft\\Virtual Machine\\Auto"
NAME = "IntegrationServicesVersion"
ROOT = Path(__file__).resolve().parents[1]
OPENS = 100
RUNS = 15
PEER_OPENS = 5  # fresh opens of the slow peers: they take seconds


@dataclass
class Row:
    """A measurement and its limit."""

    name: str
    value: float
    unit: str
    limit: float
    better: str
    peers: dict[str, float] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """True if the limit is met."""
        return self.value <= self.limit if self.better == "lower" else self.value >= self.limit


def ours(path: Path) -> str:
    """The value by imagetool, from the file to the text, every checksum verified."""
    return str(read_registry_value(path, KEY, NAME))


def by_libyal(path: Path) -> str:
    """The value by libvhdi, libfsntfs and libregf stacked on each other."""
    import pyfsntfs
    import pyregf
    import pyvhdi

    disk = pyvhdi.file()
    disk.open(str(path))
    start = 1 << 20
    size = disk.get_media_size() - 2 * start

    class Volume(io.RawIOBase):
        position = 0

        def read(self, count: int = -1) -> bytes:
            data = disk.read_buffer_at_offset(
                min(count, size - self.position), start + self.position
            )
            self.position += len(data)
            return bytes(data)

        def seek(self, position: int, whence: int = 0) -> int:
            self.position = position + (0, self.position, size)[whence]
            return self.position

        def tell(self) -> int:
            return self.position

        def get_size(self) -> int:
            return int(size)

    volume = pyfsntfs.volume()
    volume.open_file_object(Volume())
    entry = volume.get_file_entry_by_path("\\Windows\\System32\\config\\SOFTWARE")
    hive = pyregf.file()
    hive.open_file_object(entry)
    key = hive.get_key_by_path("\\Microsoft\\Virtual Machine\\Auto")
    return str(key.get_value_by_name(NAME).get_data_as_string())


def by_dissect(path: Path) -> str:
    """The value by dissect's layers as libraries, without its search for a target."""
    from dissect.hypervisor.disk.vhdx import VHDX
    from dissect.ntfs import NTFS
    from dissect.regf import RegistryHive
    from dissect.volume.disk import Disk

    with path.open("rb") as file:
        disk = Disk(VHDX(file))
        volume = NTFS(disk.partitions[0].open())
        hive = RegistryHive(volume.mft.get("Windows/System32/config/SOFTWARE").open())
        return str(hive.open("Microsoft\\Virtual Machine\\Auto").value(NAME).value)


def median(question: Callable[[Path], str], path: Path, times: int) -> float:
    """The median time of fresh opens, in milliseconds; the answer is checked each time."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        answer = question(path)
        found.append((time.perf_counter() - begun) * 1000)
        assert answer == VERSION, answer
    return statistics.median(found)


def count_reads(path: Path) -> tuple[int, int]:
    """Count the reads of the file, and their bytes, for one registry value."""
    reads: list[int] = []
    original = local_files.FileSource.read_at

    def read_at(self: local_files.FileSource, offset: int, length: int) -> bytes:
        data = original(self, offset, length)
        reads.append(len(data))
        return data

    local_files.FileSource.read_at = read_at  # type: ignore[method-assign]
    try:
        assert ours(path) == VERSION
    finally:
        local_files.FileSource.read_at = original  # type: ignore[method-assign]
    return len(reads), sum(reads)


@dataclass
class Process:
    """The cost of a process: the median wall time in ms, and the peak memory in MB."""

    time: float
    memory: float


def process(*command: object, times: int = RUNS) -> Process:
    """Run a command several times; its first run warms the caches and is not counted."""
    launcher = Path(__file__).with_name("launch.py")
    arguments = [sys.executable, "-I", "-S", str(launcher), *map(str, command)]
    found, memory = [], 0.0
    for turn in range(times + 1):
        done = subprocess.run(arguments, stdout=subprocess.PIPE, check=True, cwd=ROOT)
        elapsed, size = json.loads(done.stdout)
        if turn:
            found.append(elapsed * 1000)
        memory = max(memory, size / 1024)
    return Process(statistics.median(found), memory)


def processes() -> list[Row]:
    """The verdict as a process, against the imports that it cannot do without, and target-reg."""
    path = cached_disk()
    compileall.compile_dir(str(ROOT / "imagetool"), quiet=1)  # as an installed package is
    python = sys.executable
    least = process(python, "-c", "import typer, construct")
    program, target = (Path(python).with_name(name) for name in ("imagetool", "target-reg"))
    own = process(program, "verify", path)
    peer = process(target, path, "-k", KEY, "-kv", NAME, times=3)
    times = {"imports ms": least.time, "imagetool ms": own.time, "target-reg ms": peer.time}
    rounded = {name: round(value, 1) for name, value in times.items()}
    return [
        Row("verify, process, time to bare imports'", own.time / least.time, "x", 1.4, "lower",
            rounded),
        Row("verify, process, target-reg's time to ours", peer.time / own.time, "x", 8, "higher"),
        Row("verify, process, most memory", own.memory, "MB", 50, "lower"),
    ]  # fmt: skip


def throughput() -> list[Row]:
    """A thousand images in one call, and the registry value alone from each of them."""
    images = sorted(fleet().glob("*.vhdx"))
    for path in images:
        read_registry_value(path, KEY, NAME)
    begun = time.perf_counter()
    for path in images:
        read_registry_value(path, KEY, NAME)
    value = len(images) / (time.perf_counter() - begun)
    program = Path(sys.executable).with_name("imagetool")
    whole = process(program, "verify", *images, times=3)
    rate = len(images) / (whole.time / 1000)
    return [
        Row("verify of 1,000 images in one call", rate, "/s", 150, "higher"),
        Row("verify of 1,000 images, most memory", whole.memory, "MB", 100, "lower"),
        Row("registry value of 1,000 images", value, "/s", 400, "higher"),
    ]


def sizes() -> list[Row]:
    """The registry value from a very large disk, hive or directory."""
    found = []
    for name, path in (
        ("from a disk of 2 TB", cached_disk(size=2000)),
        ("from a hive of 300 MB", cached_disk(hive=300)),
        ("of 40,000 files beside it", cached_disk(files=40000)),
    ):
        reads, size = count_reads(path)
        found.append(Row(f"registry value {name}, reads", reads, "reads", 40, "lower"))
        found.append(Row(f"registry value {name}, bytes", size, "bytes", 200_000, "lower"))
    return found


def registry_value() -> list[Row]:
    """The registry value from the disk of 20 GiB, against the floor and the peers."""
    path = cached_disk()
    ours(path)
    floor.read_value(path)
    lowest, own = median(floor.read_value, path, OPENS), median(ours, path, OPENS)
    peers = {
        "libyal": median(by_libyal, path, PEER_OPENS),
        "dissect": median(by_dissect, path, PEER_OPENS),
    }
    reads, size = count_reads(path)
    times = {"floor ms": lowest, "imagetool ms": own} | {f"{k} ms": v for k, v in peers.items()}
    rounded = {name: round(value, 3) for name, value in times.items()}
    return [
        Row("registry value, time to the floor's", own / lowest, "x", 3, "lower", rounded),
        Row("registry value, reads", reads, "reads", 40, "lower"),
        Row("registry value, bytes read", size, "bytes", 200_000, "lower"),
        Row("registry value, libyal's time to ours", peers["libyal"] / own, "x", 50, "higher"),
        Row("registry value, dissect's time to ours", peers["dissect"] / own, "x", 10, "higher"),
    ]


def wire_rows() -> list[Row]:
    """An image on a host: exchanges for the first image and the next, and bytes."""
    rows = []
    guests = (
        ("", cached_disk(), (11, 11, 11)),
        (" of a crowded guest", crowded_disk(), (16, 16, 12)),
    )
    for whose, path, limits in guests:
        for (name, question), limit in zip(wire.questions(KEY, NAME).items(), limits, strict=True):
            first, second = wire.costs(path, question)
            what = f"{name}{whose} on a host"
            sizes: dict[str, float] = {"bytes": first.size, "of the next": second.size}
            rows.append(Row(f"{what}, exchanges", first.exchanges, "", limit, "lower", sizes))
            rows.append(Row(f"{what}, the next like it", second.exchanges, "", 3, "lower"))
    return rows


def winrm_rows() -> list[Row]:
    """A host over WinRM: round trips, bytes, and rates beside those of nearer ways."""
    found = winrm.measure(cached_disk(), sorted(fleet().glob("*.vhdx"))[0])
    times = {"WinRM ms": round(found.invoke_ms, 2), "a pipe ms": round(found.local_ms, 2)}
    verdict: dict[str, float] = {"ms": round(found.verify_ms, 1)}
    least = winrm.UPLOAD * 16 / 9  # base64 within base64
    rates = {"MB/s": round(found.upload_rate, 1), "encoding MB/s": round(found.encoding_rate, 1)}
    verify = "verify HOST:PATH over WinRM"
    slower = found.encoding_rate / found.upload_rate
    return [
        Row("session over WinRM, trips besides the script", found.start.trips, "trips", 6, "lower"),
        Row("trivial invoke over WinRM, round trips", found.invoke.trips, "trips", 3, "lower",
            times),
        Row(f"{verify}, round trips", found.first.trips, "trips", 30, "lower", verdict),
        Row(f"{verify}, bytes", found.first.size, "bytes", 1_500_000, "lower"),
        Row(f"{verify}, a copy of it", found.second.trips, "trips", 25, "lower"),
        Row(f"{verify}, another image", found.other.trips, "trips", 25, "lower"),
        Row("upload over WinRM, bytes to the encoding's own", found.upload.size / least, "x", 1.1,
            "lower"),
        Row("upload over WinRM, time to the encoding's own", slower, "x", 20, "lower", rates),
    ]  # fmt: skip


def package_rows() -> list[Row]:
    """Packages: show as a process, extraction against cabextract, a disc identified."""
    paths, whose = packages.packages()
    program, python = Path(sys.executable).with_name("imagetool"), sys.executable
    least = process(python, "-c", "import typer, construct")
    large = max(paths, key=lambda path: path.stat().st_size)
    brief = process(program, "package", "show", "--brief", large)
    full = process(program, "package", "show", large)
    ours, theirs = packages.extraction(paths)
    times = {"imports ms": least.time, "brief ms": brief.time, "all ms": full.time}
    rounded = {name: round(value, 1) for name, value in times.items()}
    speed = {f"{whose}, ours ms": round(ours, 1), "cabextract ms": round(theirs, 1)}
    return [
        Row("package show --brief, time to bare imports'", brief.time / least.time, "x", 2,
            "lower", rounded),
        Row("package show, time to bare imports'", full.time / least.time, "x", 4, "lower"),
        Row("extraction of four packages, time to cabextract's", ours / theirs, "x", 12,
            "lower", speed),
        Row("four packages of a 30 MB disc identified, bytes", packages.identify_disc(), "bytes",
            1_500_000, "lower"),
    ]  # fmt: skip


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    width = max(len(row.name) for row in rows)
    for row in rows:
        sign = "<=" if row.better == "lower" else ">="
        verdict = "" if row.holds else "   MISSED"
        number = f"{row.value:.2f}" if row.unit == "x" else f"{row.value:.0f}"
        print(f"{row.name:<{width}}  {number:>10} {row.unit:<6} {sign} {row.limit:g}{verdict}")
        if row.peers:
            peers = ", ".join(f"{name} {value}" for name, value in row.peers.items())
            print(f"{'':<{width}}  {peers}")


def main() -> None:
    """Measure, show, write."""
    rows = [*registry_value(), *processes(), *throughput(), *sizes()]
    rows += [*wire_rows(), *winrm_rows(), *package_rows()]
    show(rows)
    target = Path(__file__).with_name("latest.json")
    target.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if all(row.holds for row in rows) else 1)


if __name__ == "__main__":
    main()
