"""A Linux guest, from os-release(5).

Integration components are part of the Linux kernel; modules and daemons are not read yet.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from imagetool.filesystem import Volume

_OS_RELEASE_PATHS = ("etc/os-release", "usr/lib/os-release")
_MAX_OS_RELEASE_SIZE = 64 << 10
_ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)")


class LinuxGuest(NamedTuple):
    """A Linux in an image, as its os-release names it (imagetool.guest.guest.Guest)."""

    name: str
    """PRETTY_NAME: Debian GNU/Linux 12 (bookworm)."""
    distribution: str
    """ID: debian."""
    version: str
    """VERSION_ID: 12; empty where the distribution has none."""

    @property
    def architecture(self) -> str:
        """Empty: it is not read yet."""
        return ""

    @property
    def evidence(self) -> None:
        """None: kernels, modules and daemons are not read yet."""
        return None


def read_linux_guest(volume: Volume) -> LinuxGuest | None:
    """Read the Linux whose root file system `volume` is; None where it is none."""
    for path in _OS_RELEASE_PATHS:
        node = volume.find(path)
        if node is not None and not node.is_directory:
            fields = parse_os_release(node.open().read_at(0, _MAX_OS_RELEASE_SIZE))
            name = fields.get("PRETTY_NAME") or fields.get("NAME") or "Linux"
            return LinuxGuest(name, fields.get("ID", "linux"), fields.get("VERSION_ID", ""))
    return None


def parse_os_release(data: bytes) -> dict[str, str]:
    """Return the assignments of an os-release file; other lines are ignored."""
    found: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        match = _ASSIGNMENT.fullmatch(line.strip())
        if match is None:
            continue
        try:
            found[match[1]] = "".join(shlex.split(match[2]))
        except ValueError:  # a quote that is not closed
            found[match[1]] = match[2]
    return found
