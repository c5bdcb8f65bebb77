"""Packages: the time of `package show`, LZX against cabextract, bytes read to identify a disc.

Measured on Microsoft's own packages where IMAGETOOL_REAL_PACKAGES names them, else on look-alikes.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fixtures.cabinets import LZX, write_cabinet
from fixtures.cache import cached_folder
from fixtures.disks import run
from fixtures.packages import package_files
from imagetool.disk import FileSource
from imagetool.package import open_package
from imagetool.package.cab import Cabinet

DISC = 30 << 20
_TIMES = 5
_FORMAT = 2  # raised when their content changes


def packages() -> tuple[list[Path], str]:
    """Return the four cabinets, and their origin."""
    real = os.environ.get("IMAGETOOL_REAL_PACKAGES")
    if real:
        return sorted(Path(real).glob("*.cab")), "Microsoft's"
    folder = cached_folder(f"benchmark-packages-{_FORMAT}", _build)
    return sorted(folder.glob("*.cab")), "look-alikes"


def _build(folder: Path) -> None:
    """Cabinets of the real ones' size: the look-alikes, and text that packs as programs do."""
    noise = random.Random(5)
    words = [noise.randbytes(noise.randrange(3, 24)) for _ in range(1200)]
    for family in ("6.x", "6.2"):
        for architecture, label in (("amd64", "x64"), ("x86", "x86")):
            files = package_files(family, architecture)
            for number in range(12):
                bulk = b"".join(noise.choice(words) for _ in range(17_000))
                files[f"bulk/{number}.bin"] = bulk
            name = f"Windows{family}-HyperVIntegrationServices-{label}.cab"
            (folder / name).write_bytes(write_cabinet(files, LZX))


def disc() -> Path:
    """A disc of 30 MB with the four cabinets."""
    return cached_folder(f"benchmark-disc-{_FORMAT}", _build_disc) / "disc.iso"


def _build_disc(folder: Path) -> None:
    tree = folder / "tree"
    for path in sorted(cached_folder(f"benchmark-packages-{_FORMAT}", _build).glob("*.cab")):
        side = tree / "support" / ("x86" if "x86" in path.name else "amd64")
        side.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, side / path.name)
    (tree / "setup.exe").write_bytes(random.Random(6).randbytes(DISC - (4 << 20)))
    run("genisoimage", "-quiet", "-J", "-r", "-V", "VMGUEST", "-o", folder / "disc.iso", tree)
    shutil.rmtree(tree)


def _median(job: Callable[[], object]) -> float:
    found = []
    for _ in range(_TIMES):
        begun = time.perf_counter()
        job()
        found.append((time.perf_counter() - begun) * 1000)
    return statistics.median(found)


def extraction(paths: list[Path]) -> tuple[float, float]:
    """Every member of every cabinet in ms: by our decoder, and by cabextract as a process."""

    def ours() -> None:
        for path in paths:
            with FileSource(path) as source:
                cabinet = Cabinet(source)
                for member in cabinet.members:
                    cabinet.read(member)

    def theirs() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for path in paths:
                subprocess.run(
                    ["cabextract", "-q", "-d", folder, path], check=True, capture_output=True
                )

    return _median(ours), _median(theirs)


def identify_disc() -> int:
    """Count the bytes of the disc that are read to identify its four packages."""
    total = 0
    original = FileSource.read_at

    def read_at(self: FileSource, offset: int, length: int) -> bytes:
        nonlocal total
        data = original(self, offset, length)
        total += len(data)
        return data

    FileSource.read_at = read_at  # type: ignore[method-assign]
    try:
        with open_package(disc()) as media:
            assert len({package.identity for package in media.packages}) == 4
    finally:
        FileSource.read_at = original  # type: ignore[method-assign]
    return total
