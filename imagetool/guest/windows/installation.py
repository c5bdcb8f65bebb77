"""A Windows installation on a volume: its files, registry hives and version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagetool.contracts import Source
from imagetool.disk.lazy import lazy
from imagetool.errors import Corrupt, NotFound
from imagetool.filesystem import Node, Volume
from imagetool.guest.windows.control_set import next_control_set
from imagetool.package.identity import Version
from imagetool.registry import Hive, Key

if TYPE_CHECKING:
    from imagetool.guest.image import BlockDevice, Image

HIVE_DIRECTORY = "Windows\\System32\\config"
_CURRENT_VERSION_KEY = "Microsoft\\Windows NT\\CurrentVersion"
_SEPARATOR = "\\"


class WindowsInstallation:
    """A Windows installation on a volume: its files and registry hives."""

    def __init__(self, image: Image, device: BlockDevice, software: Hive) -> None:
        self.image = image
        self.block_device = device
        self.volume = image.volume(device)
        self.software = software

    @classmethod
    def find(cls, image: Image, device: BlockDevice) -> WindowsInstallation | None:
        """Return the Windows on `device`; None where its SOFTWARE is missing, or another file.

        Raises Corrupt where that hive is empty, of zeros, or damaged.
        """
        volume = image.volume(device)
        path = f"{HIVE_DIRECTORY}\\SOFTWARE"
        node = volume.find(path)
        if node is None or node.is_directory:
            return None
        head = node.open().read_at(0, 4)
        if head.strip(b"\0") and head != b"regf":
            image.read.note(f"volume {device.number}: {path} is no registry hive")
            return None
        return cls(image, device, _open_hive(image, volume, node, path))

    @lazy
    def system(self) -> Hive:
        """The SYSTEM hive. Raises Corrupt where there is none: no Windows boots without it."""
        try:
            return self._open("SYSTEM")
        except NotFound as error:
            raise Corrupt(
                f"{self.image.path}: this Windows has no SYSTEM hive ({HIVE_DIRECTORY})",
                hint="The installation is damaged or incomplete: restore the image.",
            ) from error

    @lazy
    def control_set(self) -> str:
        """The control set that boots next: ControlSet001. Raises Corrupt."""
        found = next_control_set(self.system)
        if found.warning:
            self.image.read.note(f"SYSTEM: {found.warning}")
        return found.name

    @lazy
    def version(self) -> Version:
        """The version of Windows: major, minor, build, UBR (update build revision)."""
        current = self.software.find(_CURRENT_VERSION_KEY)
        if current is None:
            return Version(0, 0)
        build = current.text("CurrentBuildNumber") or current.text("CurrentBuild")
        major = current.number("CurrentMajorVersionNumber")
        minor = current.number("CurrentMinorVersionNumber")
        if major is None:
            # Windows 10 has 6.3 in CurrentVersion; the two numbers above are right.
            parsed = Version.parse(current.text("CurrentVersion"))
            major, minor = (parsed.major, parsed.minor) if parsed else (0, 0)
        number = int(build) if build.isascii() and build.isdigit() and len(build) < 10 else 0
        return Version(major, minor or 0, number, current.number("UBR") or 0)

    def current_version(self) -> Key:
        """The key that states product and version. Raises Corrupt where there is none."""
        found = self.software.find(_CURRENT_VERSION_KEY)
        if found is None:
            raise Corrupt(
                f"{self.software.name}: there is no key {_CURRENT_VERSION_KEY}",
                hint="The hive is damaged, or the installation never finished.",
            )
        return found

    @property
    def product(self) -> str:
        """ProductName, or "Windows"."""
        key = self.software.find(_CURRENT_VERSION_KEY)
        return (key.text("ProductName") if key is not None else "") or "Windows"

    def hive(self, name: str) -> Hive:
        """Return a hive by the name of its file: SOFTWARE, SYSTEM, SAM … Raises NotFound."""
        if name.upper() == "SOFTWARE":
            return self.software
        return self.system if name.upper() == "SYSTEM" else self._open(name)

    def _open(self, name: str) -> Hive:
        node = self.volume.find(f"{HIVE_DIRECTORY}\\{name}")
        if node is None:
            raise NotFound(
                f"{self.image.path}: there is no hive {name}",
                hint="HKLM\\SOFTWARE, HKLM\\SYSTEM, HKLM\\SAM and HKLM\\SECURITY are usual.",
            )
        return _open_hive(self.image, self.volume, node, f"{HIVE_DIRECTORY}\\{name}")


def _open_hive(image: Image, volume: Volume, node: Node, path: str) -> Hive:
    def logs() -> list[Source]:
        found = volume.find_many([f"{path}.LOG1", f"{path}.LOG2", f"{path}.LOG"])
        return [log.open() for log in found if log is not None]

    source = node.open()
    if source.read_at(0, 4) != b"regf":
        what = "this hive begins with zeros" if source.size else "this hive has 0 bytes"
        if source.read_at(0, 4).strip(b"\0"):
            what = "this is no registry hive"
        raise Corrupt(
            f"{source.name}: {what}",
            hint="The installation is damaged: restore the image, or the hive from a backup.",
        )
    hive = Hive(source, logs)
    image.read.add(f"{path.rpartition(_SEPARATOR)[2]}: ", hive)
    return hive
