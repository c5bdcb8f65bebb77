"""The state of the emulated host: its mounted disks, kept in a file where it is to last.

A mounted file is locked, as Windows locks it. The cmdlets are in cmdlets/, one file a module.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imagetool.errors import ImagetoolError
from imagetool.lab.cmdlet import CmdletFailure, CmdletResult, ReportCallback
from imagetool.lab.cmdlets import VIRTUALIZATION_EXCEPTION, implementation
from imagetool.lab.faults import FaultMatcher, strike
from imagetool.lab.locks import lock_file

SHARING_VIOLATION = 0x80070020


@dataclass(slots=True)
class MountedDisk:
    """A disk that is mounted."""

    number: int
    path: Path
    offline: bool = True
    read_only: bool = True
    exclusive: bool = True
    """False for a disk that was mounted with -ReadOnly, whose file others may read."""
    access_paths: dict[int, list[str]] = field(default_factory=dict)
    """Directories by partition number."""
    lock: int | None = None
    """The descriptor that holds the lock on the file; None where another process holds it."""


class EmulatedHost:
    """A Hyper-V host, in memory or with its state in a file that a later process goes on with.

    `faults` happen to cmdlets by their names.
    """

    def __init__(self, faults: FaultMatcher | None = None, state_file: Path | None = None) -> None:
        self.disks: dict[int, MountedDisk] = {}
        self.faults = faults or FaultMatcher()
        self._state_file = state_file
        self._saved = ""
        if state_file is not None:
            self._load(state_file)

    def call(
        self, cmdlet: str, parameters: dict[str, object], report: ReportCallback
    ) -> list[CmdletResult]:
        """Run a cmdlet whose parameters are bound. Raises CmdletFailure."""
        strike(self.faults, cmdlet)
        try:
            return implementation(cmdlet)(self, parameters, report)
        except ImagetoolError as error:
            raise CmdletFailure(error.message, hresult=0x80070570) from None
        finally:
            self._save()

    # Mounted disks

    def find_mounted(self, path: Path) -> MountedDisk | None:
        """Return the disk that a file is mounted as, if it is."""
        return next((disk for disk in self.disks.values() if disk.path == path), None)

    def mount(self, path: Path, *, read_only: bool) -> MountedDisk:
        """Mount a file. Raises CmdletFailure where it is in use."""
        try:
            lock = lock_file(path, exclusive=not read_only)
        except BlockingIOError:
            raise in_use(path) from None
        number = next(n for n in range(1, 10_000) if n not in self.disks)
        disk = MountedDisk(number, path, offline=not read_only, exclusive=not read_only, lock=lock)
        self.disks[number] = disk
        return disk

    def dismount(self, disk: MountedDisk) -> None:
        """Dismount a disk."""
        self.disks.pop(disk.number, None)
        if disk.lock is not None:
            os.close(disk.lock)

    def dismount_path(self, path: str) -> None:
        """Dismount a file, if it is mounted: what is asked for a caller that has gone."""
        disk = self.find_mounted(Path(path).resolve())
        if disk is not None:
            self.dismount(disk)
            self._save()

    def dismount_all(self) -> None:
        """Dismount every disk."""
        for disk in list(self.disks.values()):
            self.dismount(disk)
        self._save()

    close = dismount_all

    # The state in a file

    def describe(self) -> list[dict[str, object]]:
        """Return the mounted disks as plain data."""
        return [
            {
                "number": disk.number,
                "path": str(disk.path),
                "offline": disk.offline,
                "read_only": disk.read_only,
                "exclusive": disk.exclusive,
                "access_paths": {str(key): list(item) for key, item in disk.access_paths.items()},
            }
            for disk in self.disks.values()
        ]

    def _save(self) -> None:
        if self._state_file is None:
            return
        text = json.dumps({"boot": _boot_identifier(), "disks": self.describe()})
        if text != self._saved:
            part = self._state_file.with_suffix(".part")
            part.write_text(text, encoding="utf-8")
            part.replace(self._state_file)
            self._saved = text

    def _load(self, state_file: Path) -> None:
        """Go on with the disks of an earlier process whose files are still there."""
        try:
            tree = json.loads(state_file.read_text(encoding="utf-8"))
            same = tree["boot"] == _boot_identifier()  # no mount outlives the system
            found = [_disk_from(item) for item in tree["disks"] if same]
        except (OSError, ValueError, KeyError, TypeError):
            return
        for disk in found:
            if not disk.path.is_file():
                continue
            with contextlib.suppress(OSError):  # an orphaned writer may hold it
                disk.lock = lock_file(disk.path, exclusive=disk.exclusive)
            self.disks[disk.number] = disk


def _boot_identifier() -> str:
    """Return what identifies the time since the system was started; empty where nothing does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _disk_from(item: Mapping[str, object]) -> MountedDisk:
    paths = item["access_paths"]
    assert isinstance(paths, dict)
    return MountedDisk(
        int(str(item["number"])),
        Path(str(item["path"])),
        bool(item["offline"]),
        bool(item["read_only"]),
        bool(item["exclusive"]),
        {int(key): [str(path) for path in value] for key, value in paths.items()},
    )


def in_use(path: Path) -> CmdletFailure:
    """Return the failure to mount a file that is mounted, or open elsewhere."""
    return CmdletFailure(
        f"Failed to mount the virtual disk.\nThe system failed to mount '{path}'.",
        hresult=SHARING_VIOLATION, category="ResourceBusy", error_id="ObjectInUse",
        exception=VIRTUALIZATION_EXCEPTION,
    )  # fmt: skip
