"""The state of the emulated host: its mounted disks, kept in a file where it is to last.

A mounted file is locked, as Windows locks it. The cmdlets are in cmdlets/, one file a module.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagetool.errors import ImagetoolError, WrongUsage
from imagetool.lab.cmdlet import CmdletFailure, CmdletResult, ReportCallback
from imagetool.lab.cmdlets import implementation
from imagetool.lab.configuration import LabConfiguration, read_lab_configuration
from imagetool.lab.faults import FaultMatcher, strike
from imagetool.lab.locks import lock_file


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
    parent_locks: list[int] = field(default_factory=list)
    late: dict[str, int] = field(default_factory=dict)
    """So many questions for its number, for itself, and for its partitions come too early."""

    def is_late(self, what: str) -> bool:
        """Count a question; True if it comes too early."""
        left = self.late.get(what, 0)
        self.late[what] = max(left - 1, 0)
        return left > 0


@dataclass(slots=True)
class ServicingProcess:
    """A process of DISM (dismhost.exe), which outlives the cmdlet that started it."""

    number: int
    parent: int
    calls: int
    """How often it is still seen."""


class EmulatedHost:
    """A Hyper-V host, in memory or with its state in a file that a later process goes on with.

    `faults` happen to cmdlets by their names. The file of its configuration lies beside that of its
    state, and is read again for each cmdlet.
    """

    def __init__(
        self,
        faults: FaultMatcher | None = None,
        state_file: Path | None = None,
        configuration: LabConfiguration | None = None,
    ) -> None:
        self.configuration = configuration or LabConfiguration()
        self.disks: dict[int, MountedDisk] = {}
        self.servicing: dict[int, ServicingProcess] = {}
        self.caller = 0
        """The process whose cmdlet runs, as its caller says."""
        self.faults = faults or FaultMatcher()
        self._state_file = state_file
        self._saved = ""
        if state_file is not None:
            with contextlib.suppress(WrongUsage):  # each session says it
                self.configuration = read_lab_configuration(state_file.parent)
            self._load(state_file)

    def call(
        self, cmdlet: str, parameters: dict[str, object], report: ReportCallback
    ) -> list[CmdletResult]:
        """Run a cmdlet whose parameters are bound. Raises CmdletFailure."""
        strike(self.faults, cmdlet)
        try:
            if self._state_file is not None:
                self.configuration = read_lab_configuration(self._state_file.parent)
            return implementation(cmdlet)(self, parameters, report)
        except ImagetoolError as error:
            raise CmdletFailure(error.message, hresult=0x80070570) from None
        finally:
            self._save()

    # Mounted disks

    def find_mounted(self, path: Path) -> MountedDisk | None:
        """Return the disk that a file is mounted as, if it is."""
        return next((disk for disk in self.disks.values() if disk.path == path), None)

    def mount(self, path: Path, *, read_only: bool, parents: Sequence[Path] = ()) -> MountedDisk:
        """Mount a file; others may read its parents. Raises BlockingIOError where one is locked."""
        lock = lock_file(path, exclusive=not read_only)
        parent_locks: list[int] = []
        try:
            parent_locks += [lock_file(parent, exclusive=False) for parent in parents]
        except BaseException:
            for descriptor in (lock, *parent_locks):
                os.close(descriptor)
            raise
        number = next(n for n in range(1, 10_000) if n not in self.disks)
        options = self.configuration.host
        disk = MountedDisk(
            number,
            path,
            offline=not read_only and options.san_policy == "offline",
            read_only=read_only or options.san_policy == "offline" or options.deny_write_access,
            exclusive=not read_only,
            lock=lock,
            parent_locks=parent_locks,
            late=dict.fromkeys(("number", "disk", "partitions"), options.disks_late),
        )
        self.disks[number] = disk
        return disk

    def dismount(self, disk: MountedDisk) -> None:
        """Dismount a disk. Its file may be held for a while."""
        self.disks.pop(disk.number, None)
        for descriptor in disk.parent_locks:
            os.close(descriptor)
        if disk.lock is None:
            return
        seconds = self.configuration.host.files_late
        if seconds:
            release = threading.Timer(seconds, os.close, [disk.lock])
            release.daemon = True
            release.start()
        else:
            os.close(disk.lock)

    def add_servicing_process(self) -> None:
        """Add a process of DISM that the caller has started, where such ones linger."""
        if self.configuration.host.dism_lingers:
            number = 4000 + 4 * len(self.servicing)
            self.servicing[number] = ServicingProcess(
                number, self.caller, self.configuration.host.dism_lingers
            )

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
