"""The disk that the benchmarks read, built by independent tools and cached outside the tree.

GPT, one NTFS volume, Windows/System32 with many files, and a SOFTWARE hive of many megabytes that
holds Microsoft\\Virtual Machine\\Auto, value IntegrationServicesVersion = 6.3.9600.18692. Needs
what `make test` installs, neither root nor FUSE. The same arguments give the same content.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from platformdirs import user_cache_path

from fixtures.disks import MIB, SECTOR, copy_data, fill, format_ntfs, run
from fixtures.hives import write_empty_hive

VERSION = "6.3.9600.18692"
_FORMAT = 1  # raised when the disk's content changes


def cached(hive: int = 80, files: int = 4000, size: int = 20) -> Path:
    """The disk with a hive of `hive` MB, `files` files, of `size` GiB; built when it is missing."""
    folder = Path(os.environ.get("IMAGETOOL_CACHE") or user_cache_path("imagetool"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"benchmark-{_FORMAT}-{hive}-{files}-{size}.vhdx"
    if not path.exists():
        print(f"building {path.name}, once ...", flush=True)
        build(path.with_suffix(".new"), hive, files, size)
        path.with_suffix(".new").replace(path)
    return path


def build(target: Path, hive: int, files: int, size: int) -> None:
    """Make the disk."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        work = Path(folder)
        system = work / "tree/Windows/System32"
        (system / "config").mkdir(parents=True)
        for number in range(files):
            name = hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()[:8]
            (system / f"{name}.dll").write_bytes(b"%d" % number * 40)
        text = work / "software.reg"
        text.write_text(_registry(hive), encoding="ascii")
        write_empty_hive(system / "config/SOFTWARE")
        run("hivexregedit", "--merge", "--prefix", "ROOT", system / "config/SOFTWARE", text)
        start = MIB
        volume, disk, length = work / "volume", work / "disk", (size << 30) - 2 * MIB
        format_ntfs(volume, length, start, "")
        fill(volume, work / "tree", work)
        with disk.open("wb") as file:
            file.truncate(size << 30)
        place = f"start={start // SECTOR}, size={length // SECTOR}"
        run(
            "sfdisk", "-q", disk,
            text=f"label: gpt\n{place}, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7\n",
        )  # fmt: skip
        copy_data(volume, disk, start)
        options = "subformat=dynamic,block_size=33554432"
        run("qemu-img", "convert", "-O", "vhdx", "-o", options, disk, target)


def _registry(megabytes: int) -> str:
    """A tree of the shape of a real SOFTWARE hive: Classes wide, values of up to 2 KiB."""
    lines = ["Windows Registry Editor Version 5.00", ""]

    def key(path: str, *values: str) -> None:
        lines.extend([f"[ROOT\\{path}]", *values, ""])

    for path in ("Classes", "Microsoft", "Microsoft\\Windows NT", "Policies"):
        key(path)
    for number in range((megabytes << 20) // 2400 + 1):
        group = f"Classes\\Group{number // 100:05}"
        if number % 100 == 0:
            key(group)
        seed = hashlib.sha256(str(number).encode()).digest()
        data = (seed * 64).hex(",")
        key(f"{group}\\Key{number:07}", f'"Name"="value {number}"', f'"Data"=hex:{data}')
    for path in ("Microsoft\\Virtual Machine", "Microsoft\\Virtual Machine\\Guest"):
        key(path)
    text = f"{VERSION}\0".encode("utf-16-le").hex(",")
    key("Microsoft\\Virtual Machine\\Auto", f'"IntegrationServicesVersion"=hex(1):{text}')
    return "\n".join(lines) + "\n"
