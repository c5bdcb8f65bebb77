"""Changes to images, made by worker processes: ntfs_writer and hive_writer.

Contents travel as files, for a hive may have hundreds of megabytes.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from imagetool.disk.filetime import to_filetime
from imagetool.errors import ServicingFailed
from imagetool.host.environment import child_environment
from imagetool.registry import ValueType

_TIMEOUT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file to write, with its parent directories; without data a directory."""

    path: str
    data: bytes | Path | None
    """Few bytes, or the file on this machine that holds them."""


@dataclass(slots=True)
class KeyChange:
    """A key to make, and values to set in it."""

    path: str
    values: list[tuple[str, ValueType, bytes]] = field(default_factory=list)

    def set_sz(self, name: str, value: str) -> KeyChange:
        """Set a REG_SZ."""
        return self._add_value(name, ValueType.REG_SZ, f"{value}\0".encode("utf-16-le"))

    def set_expand_sz(self, name: str, value: str) -> KeyChange:
        """Set a REG_EXPAND_SZ."""
        return self._add_value(name, ValueType.REG_EXPAND_SZ, f"{value}\0".encode("utf-16-le"))

    def set_dword(self, name: str, value: int) -> KeyChange:
        """Set a REG_DWORD."""
        return self._add_value(
            name, ValueType.REG_DWORD, (value & 0xFFFFFFFF).to_bytes(4, "little")
        )

    def set_multi_sz(self, name: str, values: Iterable[str]) -> KeyChange:
        """Set a REG_MULTI_SZ."""
        data = "".join(f"{value}\0" for value in (*values, "")).encode("utf-16-le")
        return self._add_value(name, ValueType.REG_MULTI_SZ, data)

    def set_binary(self, name: str, value: bytes) -> KeyChange:
        """Set a REG_BINARY."""
        return self._add_value(name, ValueType.REG_BINARY, value)

    def _add_value(self, name: str, kind: ValueType, data: bytes) -> KeyChange:
        self.values.append((name, kind, data))
        return self


def write_files(
    disk: Path, offset: int, size: int, changes: Sequence[FileChange], lock: int | None = None
) -> None:
    """Write files into the NTFS volume at `offset` of a disk.

    `lock` is the descriptor that holds the lock on the disk's file: the worker holds it too, also
    when this process has gone. Raises ServicingFailed.
    """
    operations = [_operation(change) for change in changes]
    job = {"disk": str(disk), "offset": offset, "size": size, "operations": operations}
    _run_worker("imagetool.lab.ntfs_writer", job | {"locked": lock is not None}, lock)


def _operation(change: FileChange) -> dict[str, str]:
    if change.data is None:
        return {"path": change.path}
    if isinstance(change.data, Path):
        return {"path": change.path, "file": str(change.data)}
    return {"path": change.path, "data": base64.b64encode(change.data).decode("ascii")}


def change_hive(hive: Path, changes: Sequence[KeyChange], timestamp: datetime) -> None:
    """Set keys and values of a hive file, in place, as of `timestamp`. Raises ServicingFailed."""
    keys = [
        {
            "path": change.path,
            "values": [
                {"name": name, "type": int(kind), "data": base64.b64encode(raw).decode("ascii")}
                for name, kind, raw in change.values
            ],
        }
        for change in changes
    ]
    job = {"hive": str(hive), "keys": keys, "time": to_filetime(timestamp)}
    _run_worker("imagetool.lab.hive_writer", job)


def _run_worker(module: str, job: object, lock: int | None = None) -> None:
    try:
        done = subprocess.run(
            [sys.executable, "-m", module],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=child_environment(),
            pass_fds=() if lock is None else (lock,),
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ServicingFailed(f"the emulated host's {module} did not end in time") from None
    if done.returncode:
        stderr_lines = done.stderr.strip().splitlines()
        reason = stderr_lines[-1] if stderr_lines else f"it ended with {done.returncode}"
        raise ServicingFailed(
            f"the emulated host cannot write the image: {reason}",
            hint="It needs libntfs-3g and libhivex (Debian: ntfs-3g, libhivex-bin).",
        )
