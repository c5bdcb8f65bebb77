"""The disks that the benchmarks read, built by independent tools and cached outside the tree.

The large one: GPT, one NTFS volume, Windows/System32 with many files, a SOFTWARE hive of many
megabytes, a SYSTEM hive of twelve, and everything that a verdict reads. The small ones: a fleet of
a thousand. Needs what `make test` installs, neither root nor FUSE.
"""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from platformdirs import user_cache_path

from fixtures import guests
from fixtures.disks import MIB, SECTOR, copy_data, fill, format_ntfs, run
from fixtures.guests import GuestSpec, Serviced, cached_guest
from fixtures.hives import RegistryText

VERSION = "6.3.9600.18692"
GUEST = GuestSpec(
    driver=VERSION, bound=VERSION, recorded=VERSION, serviced=(Serviced("6.2", VERSION),)
)
FLEET = (
    GUEST,
    guests.SERVER_2012_R2,
    guests.SERVER_2012,
    guests.DATA_EXCHANGE_DISABLED,
    replace(guests.GENERALISED, driver=VERSION),
)
"""The guests that the fleet consists of, one of each in turn."""

_FORMAT = 3  # raised when the content of a disk changes


def _folder() -> Path:
    folder = Path(os.environ.get("IMAGETOOL_CACHE") or user_cache_path("imagetool"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def cached_disk(hive: int = 80, files: int = 4000, size: int = 20) -> Path:
    """Return a disk of `size` GiB with a hive of `hive` MB and `files` files; built if missing."""
    path = _folder() / f"benchmark-{_FORMAT}-{hive}-{files}-{size}.vhdx"
    if not path.exists():
        print(f"building {path.name}, once ...", flush=True)
        build(path.with_suffix(".new"), hive, files, size)
        path.with_suffix(".new").replace(path)
    return path


def crowded_disk() -> Path:
    """Return the same with the registry of an old system: thousands of packages and drivers."""
    path = _folder() / f"crowded-{_FORMAT}.vhdx"
    if not path.exists():
        print(f"building {path.name}, once ...", flush=True)
        build(path.with_suffix(".new"), 20, 4000, 20, _fill_registry)
        path.with_suffix(".new").replace(path)
    return path


Change = Callable[[RegistryText, RegistryText], None]


def build(
    target: Path, hive: int, files: int, size: int, change: Change = lambda software, system: None
) -> None:
    """Make the disk; `change` may add to SOFTWARE and SYSTEM."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        work = Path(folder)
        tree = work / "tree"
        software, system = guests.software_of(GUEST), guests.system_of(GUEST)
        change(software, system)
        _add_bulk_keys(software, "Classes", hive)
        _add_bulk_keys(system, "ControlSet001\\Enum", 12)
        guests.write_tree(GUEST, tree, work, software, system)
        for number in range(files):
            name = hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()[:8]
            (tree / f"Windows/System32/{name}.dll").write_bytes(b"%d" % number * 40)
        start = MIB
        volume, disk, length = work / "volume", work / "disk", (size << 30) - 2 * MIB
        format_ntfs(volume, length, start, "")
        fill(volume, tree, work)
        with disk.open("wb") as file:
            file.truncate(size << 30)
        partition = f"start={start // SECTOR}, size={length // SECTOR}"
        run(
            "sfdisk", "-q", disk,
            text=f"label: gpt\n{partition}, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7\n",
        )  # fmt: skip
        copy_data(volume, disk, start)
        options = "subformat=dynamic,block_size=33554432"
        run("qemu-img", "convert", "-O", "vhdx", "-o", options, disk, target)


def _fill_registry(software: RegistryText, system: RegistryText) -> None:
    """Add as many keys as systems have after years of use, in random order."""
    noise = random.Random(5)
    words = (
        "Client",
        "Server",
        "Network",
        "Storage",
        "Media",
        "Print",
        "Shell",
        "Hyper-V",
        "Fonts",
    )

    def name() -> str:
        return f"{noise.choice(words)}-{noise.choice(words)}-{noise.randrange(10000)}"

    for number in range(5000):
        version = f"6.3.9600.{noise.randrange(16384, 20000)}"
        package = f"Microsoft-Windows-{name()}-Package~{guests.TOKEN}~amd64~~{version}"
        software.key(
            f"{guests.CBS}\\Packages\\{package}",
            {
                "InstallName": f"{package}.mum",
                "InstallLocation": noise.randbytes(30).hex(),
                "CurrentState": 0x70,
                "InstallTimeHigh": 30_000_000 + number % 999,
                "InstallTimeLow": noise.getrandbits(31),
            },
        )
        software.key(f"Classes\\CLSID\\{{{noise.randbytes(16).hex()}}}", {"x": noise.randbytes(60)})
        if number % 6 == 0:
            software.key(f"Microsoft\\{name()}\\Settings", {"a": noise.randbytes(60)})
            software.key(f"Microsoft\\Windows\\CurrentVersion\\{name()}", {})
            inf, folder = f"{name().lower()}.inf", noise.randbytes(8).hex()
            packages = "DriverDatabase\\DriverPackages"
            system.key(f"{packages}\\{inf}_amd64_{folder}", {"Version": noise.randbytes(40)})
            system.key(f"DriverDatabase\\DriverInfFiles\\{inf}", {"Active": inf})
            system.key(f"ControlSet001\\Services\\{name()}", {"Start": 3, "ImagePath": name()})


def _add_bulk_keys(hive: RegistryText, below: str, megabytes: int) -> None:
    """Add keys of the given size in all: in wide groups, values of up to 2 KiB."""
    for number in range((megabytes << 20) // 2400 + 1):
        seed = hashlib.sha256(str(number).encode()).digest()
        group = f"{below}\\Group{number // 100:05}\\Key{number:07}"
        hive.key(group, {"Name": f"value {number}", "Data": seed * 64})


def fleet(count: int = 1000) -> Path:
    """Return a directory with `count` guests, each a sparse file."""
    target = _folder() / f"fleet-{_FORMAT}-{count}"
    if not target.exists():
        print(f"building {count} images, once ...", flush=True)
        new = target.with_suffix(".new")
        new.mkdir(exist_ok=True)
        for first, spec in enumerate(FLEET):
            data = cached_guest(replace(spec, size=256 * MIB)).read_bytes()
            pieces = [
                (start, data[start : start + 65536])
                for start in range(0, len(data), 65536)
                if data[start : start + 65536].strip(b"\0")
            ]
            for number in range(first, count, len(FLEET)):
                with (new / f"image-{number:04}.vhdx").open("wb") as file:
                    for start, piece in pieces:
                        file.seek(start)
                        file.write(piece)
                    file.truncate(len(data))
        new.rename(target)
    return target
