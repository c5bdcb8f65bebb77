"""Drivers of a Windows guest: the active wvmbus driver, and the contents of the driver store.

Windows 8 and later keep a database of driver packages in the SYSTEM hive. Windows 7 has only the
driver store, a directory per package, whose INF states DriverVer. Older versions have no usable
store: there the file version of vmbus.sys is all there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from imagetool.errors import BudgetSpent, NotFound, Unreadable
from imagetool.filesystem import Node, Volume
from imagetool.guest.windows.installation import WindowsInstallation
from imagetool.guest.windows.version_resource import read_version
from imagetool.package.identity import Version
from imagetool.registry import Key

if TYPE_CHECKING:
    from imagetool.guest.image import Image

WINDOWS_7, WINDOWS_8 = Version(6, 1), Version(6, 2)
DRIVER_STORE = "Windows\\System32\\DriverStore\\FileRepository"
VMBUS_SYS = "Windows\\System32\\drivers\\vmbus.sys"

_DRIVER_PACKAGES_KEY = "DriverDatabase\\DriverPackages"
_MAX_INF_SIZE = 1 << 20
_DRIVER_VER = r"^\s*DriverVer\s*=\s*[^,\r\n;]*,\s*([0-9.]+)"


def active_driver(windows: WindowsInstallation) -> tuple[Version | None, str]:
    """Return the version of the wvmbus driver that the next boot loads, and its driver package."""
    if windows.version >= WINDOWS_8:
        key = windows.system.find("DriverDatabase\\DriverInfFiles\\wvmbus.inf")
        name = key.text("Active") if key is not None else ""
        found = windows.system.find(f"{_DRIVER_PACKAGES_KEY}\\{name}") if name else None
        return read_driver_version(found.get("Version")) if found is not None else None, name
    if windows.version >= WINDOWS_7:
        stored = [item for item in _inf_versions(windows, "wvmbus.inf") if item[0] is not None]
        return max(stored, default=(None, ""), key=lambda item: item[0] or Version(0, 0))
    return file_version(windows.volume.find(VMBUS_SYS)), ""


def find_inf_paths(windows: WindowsInstallation, infs: Sequence[tuple[str, Version]]) -> list[str]:
    """Return the path in the driver store of each INF of that version, "" where it is missing."""
    if windows.version >= WINDOWS_8:
        packages = windows.system.find(_DRIVER_PACKAGES_KEY)
        if packages is None:
            return [""] * len(infs)
        return list(
            windows.image.gather(
                *(partial(_inf_path_in_database, windows.image, packages, *item) for item in infs)
            )
        )
    return [_inf_path_in_store(windows, inf, version) for inf, version in infs]


def _inf_path_in_database(image: Image, packages: Key, inf: str, version: Version) -> str:
    image.prefetch(partial(packages.prefetch_subkeys, f"{inf}_"))
    for package in packages.subkeys(f"{inf}_"):
        if read_driver_version(package.get("Version")) == version:
            return f"{DRIVER_STORE}\\{package.name}\\{inf}"
    return ""


def _inf_path_in_store(windows: WindowsInstallation, inf: str, version: Version) -> str:
    for stored, name in _inf_versions(windows, inf):
        if stored == version:
            return f"{DRIVER_STORE}\\{name}\\{inf}"
    return ""


def _inf_versions(windows: WindowsInstallation, inf: str) -> Iterator[tuple[Version | None, str]]:
    """DriverVer and directory name of each package of that INF in the driver store."""
    for name, node in stored_infs(windows.volume, inf):
        yield read_inf_version(node), name


def stored_infs(volume: Volume, inf: str) -> list[tuple[str, Node]]:
    """Return the directory name and the INF of each package of that INF in the driver store."""
    folder = volume.find(DRIVER_STORE)
    if folder is None or not folder.is_directory:
        return []
    names = [entry.name for entry in folder.entries(f"{inf}_") if entry.is_directory]
    nodes = volume.find_many([f"{DRIVER_STORE}\\{name}\\{inf}" for name in names])
    return [(name, node) for name, node in zip(names, nodes, strict=True) if node is not None]


def read_inf_version(node: Node) -> Version | None:
    """The version in an INF's DriverVer; INFs are UTF-16 or UTF-8 with a BOM, or in a code page."""
    data = node.open().read_at(0, _MAX_INF_SIZE)
    mark = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be", b"\xef\xbb": "utf-8"}
    text = data.decode(mark.get(data[:2], "latin-1"), "replace")
    found = re.search(_DRIVER_VER, text, re.I | re.M)
    return Version.parse(found[1]) if found else None


def read_driver_version(data: object) -> Version | None:
    """Parse the binary value Version of a driver package (Windows 8 and later).

    Little-endian: the class GUID at byte 8, the driver's date at byte 24, its version at byte 32.
    Undocumented; seen in hives of Windows 8.1 and Windows 10.
    """
    if not isinstance(data, bytes) or len(data) < 40:
        return None
    return Version.from_number(int.from_bytes(data[32:40], "little"))


def file_version(node: Node | None) -> Version | None:
    """The file version in a file's version resource; None where there is none that can be read.

    File versions only support other evidence, so a damaged file raises nothing but
    BudgetSpent.
    """
    if node is None:
        return None
    try:
        return read_version(node.open())
    except BudgetSpent:
        raise
    except (Unreadable, NotFound):  # a host that fails ends the question
        return None
