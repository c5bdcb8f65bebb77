"""Foreign disks, unpacked once."""

from __future__ import annotations

import bz2
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def unpack(testdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A foreign file by its packed name below the test data; where the unpacked one lies."""
    folder = tmp_path_factory.mktemp("foreign")

    def write(name: str) -> Path:
        packed = testdata / name
        target = folder / packed.stem
        if not target.exists():
            data = packed.read_bytes()
            if packed.suffix == ".zip":
                with zipfile.ZipFile(packed) as archive:
                    data = archive.read(archive.namelist()[0])
            else:
                data = (bz2 if packed.suffix == ".bz2" else lzma).decompress(data)
            target.write_bytes(data)
        return target

    return write
