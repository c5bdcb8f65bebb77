"""The configuration of an emulated host: lab.toml in its state directory.

Without the file the host is a careful one of today: Hyper-V, disks that come up offline. Every
mistake in it is refused with file, key and hint.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import NamedTuple, TypeVar

from imagetool.errors import WrongUsage

T = TypeVar("T")

FILE_NAME = "lab.toml"
_MAX_SIZE = 1 << 20
_LARGEST_NUMBER = 3600


class Generation(NamedTuple):
    """A release of Windows Server, as a host shows itself."""

    product: str
    powershell: str
    """The version of its Windows PowerShell, with WMF 5.1 where it came with an older one."""
    dism: str
    has_vmguest_iso: bool


GENERATIONS = {
    "2012r2": Generation("Windows Server 2012 R2 9600", "5.1.14409.1005", "6.3.9600.17031", True),
    "2016": Generation("Windows Server 2016 14393", "5.1.14393.0", "10.0.14393.0", False),
    "2019": Generation("Windows Server 2019 17763", "5.1.17763.1", "10.0.17763.1", False),
    "2022": Generation("Windows Server 2022 20348", "5.1.20348.1", "10.0.20348.1", False),
    "2025": Generation("Windows Server 2025 26100", "5.1.26100.1", "10.0.26100.1", False),
}
"""Their builds; the last numbers of the versions are guesses."""

DIRECTORY_KINDS = ("ntfs", "refs", "csv", "share")
ATTRIBUTES = {"sparse": 0x200, "compressed": 0x800, "encrypted": 0x4000}
"""The attributes that files of a directory have, by name ([MS-FSCC] 2.6)."""


@dataclass(frozen=True, slots=True)
class HostOptions:
    """The table [host]."""

    generation: str = ""
    """One of GENERATIONS; empty: the host does not say what it is."""
    hyper_v: bool = True
    """False for a host without the module Hyper-V."""
    san_policy: str = "offline"
    """`offline`: a new disk comes up offline and read-only; `online`: online and writable."""
    deny_write_access: bool = False
    """True: disks that BitLocker does not protect are not writable (FDVDenyWriteAccess)."""
    disks_late: int = 0
    """So many questions after its mount a disk, and then its partitions, are not there yet."""
    files_late: float = 0.0
    """So many seconds after its dismount a file is still held."""
    dism_lingers: int = 0
    """So many questions after Add-WindowsPackage its process is still there."""


@dataclass(frozen=True, slots=True)
class DirectoryOptions:
    """A table [[directories]]: a directory of this machine, and what the host says of it."""

    path: str
    name: str = ""
    """Its name on the host; empty: the same."""
    kind: str = "ntfs"
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """A table [[machines]]: a virtual machine with its disks."""

    name: str
    state: str = "Off"
    """`Running` and `Saved` hold the disks."""
    disks: tuple[str, ...] = ()

    @property
    def holds_its_disks(self) -> bool:
        """True if the files of its disks are in use."""
        return self.state in ("Running", "Paused")


@dataclass(frozen=True, slots=True)
class LabConfiguration:
    """The whole file."""

    host: HostOptions = HostOptions()
    directories: tuple[DirectoryOptions, ...] = ()
    machines: tuple[MachineOptions, ...] = ()

    @property
    def generation(self) -> Generation | None:
        """The release that the host shows; None where it shows none."""
        return GENERATIONS.get(self.host.generation)

    def directory_of(self, path: Path) -> DirectoryOptions | None:
        """Return the configured directory that a path lies in, the deepest of several."""
        fitting = [item for item in self.directories if path.is_relative_to(item.path)]
        return max(fitting, key=lambda item: len(item.path), default=None)

    def holder_of(self, path: Path) -> MachineOptions | None:
        """Return the virtual machine that holds a file, if one does."""
        for machine in self.machines:
            if machine.holds_its_disks and str(path) in machine.disks:
                return machine
        return None


def read_lab_configuration(directory: Path) -> LabConfiguration:
    """Read the configuration of a state directory. Raises WrongUsage."""
    path = directory / FILE_NAME
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_SIZE + 1)
    except FileNotFoundError:
        return LabConfiguration()
    except OSError as error:
        raise WrongUsage(
            f"{path}: cannot be read: {error.strerror}", hint="Take it away, or let it be read."
        ) from None
    try:
        if len(data) > _MAX_SIZE:
            raise ValueError(f"it has more than {_MAX_SIZE:,} bytes")
        tree = tomllib.loads(data.decode("utf-8"))
    except ValueError as error:
        raise WrongUsage(f"{path}: this is no TOML: {error}", hint="See docs/lab.md.") from None
    return _LabFileReader(path).configuration(tree)


class _LabFileReader:
    """Reads the tables of one file; every mistake is refused."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def configuration(self, tree: Mapping[str, object]) -> LabConfiguration:
        """Read the whole file."""
        self._check_keys("the file", tree, ("host", "directories", "machines"))
        host = self._table("host", tree.get("host", {}), HostOptions)
        directories = self._tables("directories", tree, DirectoryOptions)
        machines = self._tables("machines", tree, MachineOptions)
        self._one_of("host.generation", host.generation, ("", *GENERATIONS))
        self._one_of("host.san_policy", host.san_policy, ("offline", "online"))
        for item in directories:
            self._whole_path("directories.path", item.path)
            self._one_of("directories.kind", item.kind, DIRECTORY_KINDS)
            for name in item.attributes:
                self._one_of("directories.attributes", name, tuple(ATTRIBUTES))
        for machine in machines:
            self._one_of("machines.state", machine.state, ("Off", "Running", "Paused", "Saved"))
            for disk in machine.disks:
                self._whole_path("machines.disks", disk)
        return LabConfiguration(host, directories, machines)

    def _tables(self, name: str, tree: Mapping[str, object], kind: type[T]) -> tuple[T, ...]:
        listed = tree.get(name, [])
        if not isinstance(listed, list):
            raise self._wrong(f"{name} is no list of tables", f"Write [[{name}]].")
        return tuple(self._table(name, item, kind) for item in listed)

    def _table(self, name: str, tree: object, kind: type[T]) -> T:
        if not isinstance(tree, dict):
            raise self._wrong(f"{name} is no table", f"Write [{name}].")
        known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]  # a dataclass
        self._check_keys(name, tree, tuple(known))
        values: dict[str, object] = {}
        for key, item in known.items():
            if key in tree:
                values[key] = self._value(f"{name}.{key}", tree[key], str(item.type))
            elif item.default is MISSING:
                raise self._wrong(f"a table of {name} has no {key}", "See docs/lab.md.")
        return kind(**values)

    def _value(self, key: str, value: object, kind: str) -> object:
        if kind == "tuple[str, ...]":
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise self._wrong(f"{key} is no list of texts", "")
            return tuple(value)
        if kind == "float" and type(value) is int:
            value = float(value)
        types: dict[str, type] = {"str": str, "bool": bool, "int": int, "float": float}
        if type(value) is not types[kind]:
            raise self._wrong(f"{key} is not of the type {kind}", "See docs/lab.md.")
        if isinstance(value, int | float) and not 0 <= value <= _LARGEST_NUMBER:
            raise self._wrong(f"{key} is out of range", f"From 0 to {_LARGEST_NUMBER}.")
        return value

    def _check_keys(self, where: str, tree: Mapping[str, object], known: tuple[str, ...]) -> None:
        for key in tree:
            if key not in known:
                raise self._wrong(
                    f"{where} has a key {key!r} that means nothing", f"Known: {', '.join(known)}."
                )

    def _one_of(self, key: str, value: str, known: tuple[str, ...]) -> None:
        if value not in known:
            listed = ", ".join(filter(None, known))
            raise self._wrong(f"{key} is {value!r}", f"One of: {listed}.")

    def _whole_path(self, key: str, value: str) -> None:
        if not Path(value).is_absolute():
            raise self._wrong(f"{key} is {value!r}, which is no whole path of this machine", "")

    def _wrong(self, what: str, hint: str) -> WrongUsage:
        return WrongUsage(f"{self._path}: {what}", hint=hint or "See docs/lab.md.")
