"""Facts about a Linux installation, from os-release(5).

Integration components are part of the Linux kernel; modules and daemons are not read yet.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagetool.filesystem import Volume

_OS_RELEASE_PATHS = ("etc/os-release", "usr/lib/os-release")
_MAX_OS_RELEASE_SIZE = 64 << 10
_ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)")


@dataclass(frozen=True, slots=True)
class LinuxFacts:
    """The distribution, as os-release names it."""

    name: str
    """PRETTY_NAME: Debian GNU/Linux 12 (bookworm)."""
    distribution: str
    """ID: debian."""
    version: str
    """VERSION_ID: 12; empty where the distribution has none."""


def read_linux_facts(volume: Volume) -> LinuxFacts | None:
    """Read the facts of the Linux whose root file system `volume` is; None where it is none."""
    for path in _OS_RELEASE_PATHS:
        node = volume.find(path)
        if node is not None and not node.is_directory:
            fields = parse_os_release(node.open().read_at(0, _MAX_OS_RELEASE_SIZE))
            name = fields.get("PRETTY_NAME") or fields.get("NAME") or "Linux"
            return LinuxFacts(name, fields.get("ID", "linux"), fields.get("VERSION_ID", ""))
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
