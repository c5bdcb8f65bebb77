"""Hives of other people, unpacked, and the dump that independent readers agree on."""

from __future__ import annotations

import gzip
import hashlib
import lzma
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest

from imagetool.disk.source import MemorySource
from imagetool.registry import Hive

Load = Callable[[str], bytes]


@pytest.fixture(scope="session")
def load(testdata: Path) -> Load:
    """The bytes of a foreign hive, by its name below the folder of hives."""

    @cache
    def read(name: str) -> bytes:
        packed = testdata / "hive" / f"{name}.xz"
        if packed.is_file():
            return lzma.decompress(packed.read_bytes())
        return (testdata / "hive" / name).read_bytes()

    return read


@pytest.fixture(scope="session")
def truth(testdata: Path) -> Callable[[str], list[str]]:
    """The lines of a dump that python-registry and yarp made."""

    def read(name: str) -> list[str]:
        packed = (testdata / "truth" / "hive" / f"{name}.txt.gz").read_bytes()
        return gzip.decompress(packed).decode("utf-8", "surrogatepass").splitlines()

    return read


@pytest.fixture(scope="session")
def dump() -> Callable[..., list[str]]:
    """Everything in a hive, as the dumps of other readers write it."""

    def write(data: bytes, logs: Sequence[bytes] = ()) -> list[str]:
        hive = Hive(MemorySource(data), lambda: [MemorySource(log) for log in logs])
        keys, lines = [hive.root], []
        while keys:
            key = keys.pop()
            path = f"\\{key.path}" if key.path else ""
            if path:
                lines.append(f"{path}\\")
            for value in key.values():
                raw = value.raw
                digest = hashlib.sha256(raw).hexdigest()[:16]
                lines.append(f"{path}|{value.name}|{int(value.type)}|{len(raw)}|{digest}")
            keys += key.subkeys()
        return sorted(lines)

    return write
