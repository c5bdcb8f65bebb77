"""A guest image: its disk, partition table, block devices, volumes, and installations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from imagetool.budget import Budget
from imagetool.contracts import Files, OpenFile, Source, Task
from imagetool.disk import Disk, Partition, PartitionTable, open_disk, read_partitions
from imagetool.disk.files import expected_ranges
from imagetool.disk.lazy import lazy
from imagetool.disk.local_files import LOCAL_FILES
from imagetool.errors import (
    BudgetSpent,
    Encrypted,
    ImagetoolError,
    NoOperatingSystem,
    NotFound,
    SeveralInstallations,
    Unreadable,
    Unsupported,
    WrongUsage,
)
from imagetool.filesystem import Volume, open_volume, recognise
from imagetool.filesystem.recognise import SUPPORTED_FILE_SYSTEMS
from imagetool.guest.warnings import WarningCollector, device_warnings
from imagetool.guest.windows.installation import WindowsInstallation

if TYPE_CHECKING:
    from imagetool.guest.linux.guest import LinuxGuest

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")

_PREFETCHED_RANGES = ((0, 34 * 512), (1 << 20, 4096))
_NOT_READABLE = (Unreadable, NotFound)
"""Errors of one volume, which the others outlive; a host that fails ends the question."""
_OBJECTS_PER_VOLUME = 100
"""Opening a volume takes as long as making so many objects."""
_LINUX_FILE_SYSTEMS = ("ext", "XFS", "Btrfs")


class BlockDevice(NamedTuple):
    """A partition, a logical volume, or the whole disk, with the file system on it."""

    number: int
    partition: Partition | None
    source: Source
    file_system: str
    """NTFS, FAT, ext … as `imagetool.filesystem.recognise` names it; empty where unknown."""
    name: str = ""
    """Volume group and name of a logical volume: vg/root; else empty."""


class ImageIdentity(NamedTuple):
    """Size, format and identifiers, equal wherever the same image is read."""

    size: int
    """The size of the file in bytes."""
    format: str
    identifiers: tuple[tuple[str, str], ...]
    """Of a VHDX FileWriteGuid and DataWriteGuid, which every writer changes, and VirtualDiskId; of
    a VHD unique id, time stamp and checksum; of a raw file none."""


class Image:
    """A guest image in an open file, which it closes. Close it, or use it as a context manager.

    Every property is read on first access. `path` is the name that the caller gave.
    """

    def __init__(self, file: OpenFile, parents: Sequence[str | Path] = ()) -> None:
        self.path = file.name
        self._file = file
        self.read = WarningCollector()
        """The volumes and hives that were opened, for the sake of their warnings."""
        try:
            self.disk: Disk = open_disk(file, parents)
        except BaseException:  # an interruption, too
            file.close()
            raise

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about all that was read so far: file, disk, partitions, volumes, hives.

        Each is a sentence, and comes once. Nothing more is read than the state of open volumes.
        """
        found = [*self._file.warnings, *self.disk.warnings]
        if "partition_table" in self.__dict__:
            found += self.partition_table.warnings
        if "block_devices" in self.__dict__:
            found += device_warnings(self.block_devices)
        found += [error.message for error in self._failures]
        found += self.read.collect()
        return tuple(dict.fromkeys(found))

    @overload
    def gather(self, a: Callable[[], A], b: Callable[[], B], /) -> tuple[A, B]: ...
    @overload
    def gather(
        self, a: Callable[[], A], b: Callable[[], B], c: Callable[[], C], /
    ) -> tuple[A, B, C]: ...
    @overload
    def gather(
        self, a: Callable[[], A], b: Callable[[], B], c: Callable[[], C], d: Callable[[], D], /
    ) -> tuple[A, B, C, D]: ...
    @overload
    def gather(
        self,
        a: Callable[[], A],
        b: Callable[[], B],
        c: Callable[[], C],
        d: Callable[[], D],
        e: Callable[[], E],
        f: Callable[[], F],
        /,
    ) -> tuple[A, B, C, D, E, F]: ...
    @overload
    def gather(self, *tasks: Callable[[], T]) -> tuple[T, ...]: ...

    def gather(self, *tasks: Callable[[], Any]) -> tuple[Any, ...]:
        """Run tasks that do not depend on each other; return their results (OpenFile.gather)."""
        return tuple(self._file.gather(tasks))

    def prefetch(self, *tasks: Task) -> None:
        """Run tasks for the sake of what they read, where a read is a round trip."""
        self._file.prefetch(tasks)

    @property
    def budget(self) -> Budget:
        """What a question may cost: `with image.budget:` around several makes one of them."""
        return self._file.budget

    @property
    def file_size(self) -> int:
        """The size of the file in bytes."""
        return self._file.size

    @property
    def identity(self) -> ImageIdentity:
        """The identity of the image."""
        identifiers = tuple(sorted(self.disk.identifiers.items()))
        return ImageIdentity(self.file_size, self.disk.format, identifiers)

    @lazy
    def partition_table(self) -> PartitionTable:
        """The partition table. Raises Corrupt."""
        # The first partition nearly always begins at 1 MiB.
        self.prefetch(partial(self.disk.read_many, _PREFETCHED_RANGES))
        return read_partitions(self.disk)

    @lazy
    def block_devices(self) -> tuple[BlockDevice, ...]:
        """Every partition with its file system, then every logical volume on them.

        A disk without a partition table is one block device, number 1.
        """
        with self.budget:
            return self._find_devices()

    def _find_devices(self) -> tuple[BlockDevice, ...]:
        if self.partition_table.scheme == "none":
            found = [BlockDevice(1, None, self.disk, recognise(self.disk))]
        else:
            partitions = self.partition_table.partitions
            sources = [partition.slice(self.disk) for partition in partitions]
            kinds = self.gather(*(partial(recognise, source) for source in sources))
            found = [
                BlockDevice(partition.number, partition, source, kind)
                for partition, source, kind in zip(partitions, sources, kinds, strict=True)
            ]
        if any(device.file_system == "LVM" for device in found):
            found += self._logical_volumes(found)
        return tuple(found)

    def _logical_volumes(self, devices: Sequence[BlockDevice]) -> list[BlockDevice]:
        """The logical volumes; those that cannot be read become `warnings`."""
        from imagetool.filesystem.lvm import logical_volumes, read_physical_volume

        physical = []
        for device in devices:
            if device.file_system == "LVM":
                try:
                    physical.append(read_physical_volume(device.source))
                except _NOT_READABLE as error:
                    self._record_failure(error)
        found: list[BlockDevice] = []
        number = max(device.number for device in devices)
        try:
            for volume in logical_volumes(physical):
                number += 1
                try:
                    source = volume.open()
                    found.append(BlockDevice(number, None, source, recognise(source), volume.name))
                except _NOT_READABLE as error:
                    self._record_failure(error)
        except _NOT_READABLE as error:
            self._record_failure(error)
        return found

    @lazy
    def _volumes(self) -> dict[int, Volume]:
        return {}

    def volume(self, device: BlockDevice) -> Volume:
        """Open the volume on a block device; the second call returns the same object.

        Raises Unsupported, Encrypted, NotRecognised, Corrupt.
        """
        if device.number not in self._volumes:
            self.budget.spend(self.path, _OBJECTS_PER_VOLUME)
            volume = self._volumes[device.number] = open_volume(device.source)
            self.read.add(f"volume {device.number}: ", volume)
        return self._volumes[device.number]

    def open_if_readable(self, device: BlockDevice) -> None:
        """Open the volume on a block device for the sake of its warnings, if it can be read.

        One that is damaged becomes a warning; one of no known file system none.
        """
        if device.file_system in SUPPORTED_FILE_SYSTEMS:
            try:
                self.volume(device)
            except _NOT_READABLE as error:
                self._record_failure(error)

    def block_device(self, number: int) -> BlockDevice:
        """Return the block device of that number. Raises WrongUsage where there is none."""
        for device in self.block_devices:
            if device.number == number:
                return device
        raise WrongUsage(
            f"{self.path}: there is no volume {number}",
            hint="`imagetool disk map` shows the numbers.",
        )

    @lazy
    def installations(self) -> tuple[WindowsInstallation, ...]:
        """Every Windows installation on the disk."""
        with self.budget:
            return self._find_installations()

    def _find_installations(self) -> tuple[WindowsInstallation, ...]:
        devices = [device for device in self.block_devices if device.file_system == "NTFS"]
        found: list[WindowsInstallation] = []
        for result in self.gather(*(partial(self._installation_on, device) for device in devices)):
            if isinstance(result, ImagetoolError):
                self._record_failure(result)
            elif result is not None:
                found.append(result)
        return tuple(found) if len(found) < 2 else self._readable(found)

    def _readable(self, found: Sequence[WindowsInstallation]) -> tuple[WindowsInstallation, ...]:
        """Of several installations those whose version can be read; the others are `warnings`."""
        errors = self.gather(*(partial(self._damage_of, item) for item in found))
        for error in errors:
            if error is not None:
                self._record_failure(error)
        return tuple(item for item, error in zip(found, errors, strict=True) if error is None)

    def _damage_of(self, windows: WindowsInstallation) -> ImagetoolError | None:
        try:
            windows.current_version()
        except _NOT_READABLE as error:
            return error
        return None

    def _installation_on(self, device: BlockDevice) -> WindowsInstallation | ImagetoolError | None:
        try:
            return WindowsInstallation.find(self, device)
        except _NOT_READABLE as error:
            return error

    @lazy
    def linux(self) -> tuple[tuple[BlockDevice, LinuxGuest], ...]:
        """Every block device that holds the root of a Linux, and that Linux."""
        with self.budget:
            return self._find_linux()

    def _find_linux(self) -> tuple[tuple[BlockDevice, LinuxGuest], ...]:
        from imagetool.guest.linux.guest import read_linux_guest

        found = []
        for device in self.block_devices:
            if device.file_system not in _LINUX_FILE_SYSTEMS:
                continue
            try:
                guest = read_linux_guest(self.volume(device))
            except _NOT_READABLE as error:
                self._record_failure(error)
                continue
            if guest is not None:
                found.append((device, guest))
        return tuple(found)

    @lazy
    def _failures(self) -> list[ImagetoolError]:
        """Errors of volumes that could not be read; raised only where no Windows is found."""
        return []

    def _record_failure(self, error: ImagetoolError) -> None:
        """Keep an error that others outlive. Raises one of the budget, which ends the question."""
        if isinstance(error, BudgetSpent):
            raise error
        error.__traceback__ = None  # with it would stay what its readers had in memory
        if all(error.message != other.message for other in self._failures):
            self._failures.append(error)

    def windows(self, number: int | None = None) -> WindowsInstallation:
        """Return the Windows of the image, or that on volume `number`.

        Raises SeveralInstallations where there are several and none was chosen, Encrypted or
        NoOperatingSystem where there is none.
        """
        if number is not None:
            device = self.block_device(number)
            found = WindowsInstallation.find(self, device) if device.file_system == "NTFS" else None
            if found is None:
                self.volume(device)
                raise NoOperatingSystem(
                    f"{self.path}: volume {number} holds no Windows",
                    hint="`imagetool disk map` shows what lies where.",
                )
            return found
        if len(self.installations) == 1:
            return self.installations[0]
        if self.installations:
            names = " and ".join(
                f"volume {item.block_device.number} ({item.product})" for item in self.installations
            )
            raise SeveralInstallations(
                f"{self.path}: Windows is installed several times: {names}",
                hint="Choose one with --volume N.",
            )
        raise self._no_windows_error()

    def _no_windows_error(self) -> ImagetoolError:
        """The error for an image without Windows: Linux, or an encrypted or damaged volume."""
        if self.linux:
            device, guest = self.linux[0]
            return Unsupported(
                f"{self.path}: Linux, {guest.name} (volume {device.number}): not looked into yet",
                hint="Integration components are part of a Linux kernel; Windows is judged.",
            )
        for device in self.block_devices:
            if device.file_system in ("BitLocker", "LUKS"):
                try:
                    self.volume(device)
                except Encrypted as error:
                    return error
        if self._failures:
            return self._failures[0]
        counts = Counter(device.file_system or "unknown" for device in self.block_devices)
        seen = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in counts.items())
        return NoOperatingSystem(
            f"{self.path}: no Windows was found (volumes: {seen or 'none'})",
            hint="`imagetool disk map` shows what lies on the disk.",
        )

    def close(self) -> None:
        """Close the file, and those of its parents."""
        # Breaks the reference cycle between image and installation, which frees both at once.
        self.__dict__.pop("installations", None)
        self.disk.close()
        self._file.close()

    def __enter__(self) -> Image:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def open_image(
    path: str | Path, parents: Sequence[str | Path] = (), files: Files = LOCAL_FILES
) -> Image:
    """Open a guest image for reading: on this machine, or through the `files` of a host.

    Parents of a differencing disk are looked for in its own directory and in `parents`, which are
    directories on the machine that has the image.

    Raises CannotOpen, NotRecognised, Unsupported or Corrupt, each with a sentence and a hint.
    """
    path = str(path)
    return Image(files.open(path, expected_ranges(path)), parents)
