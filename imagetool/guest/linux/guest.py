"""A Linux guest, from os-release(5) or what older systems have in its stead.

Integration components are part of the Linux kernel; modules and daemons are not read yet.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from imagetool.errors import NotFound

if TYPE_CHECKING:
    from imagetool.filesystem import Volume
    from imagetool.filesystem.volume import Entry

_OS_RELEASE_PATHS = ("etc/os-release", "usr/lib/os-release")
_RELEASE_FILES = (
    ("etc/redhat-release", ""),
    ("etc/SuSE-release", ""),
    ("etc/system-release", ""),
    ("etc/alpine-release", "Alpine Linux"),
    ("etc/slackware-version", ""),
    ("etc/debian_version", "Debian GNU/Linux"),
)
"""Files of one line that older systems have, and what stands before it."""
_OSTREE = "ostree/deploy"
_MAX_DEPLOYMENTS = 64
_VERSION = re.compile(r"[0-9]+(?:[.][0-9]+)*")
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
    """Read the Linux whose root file system `volume` is; None where it is none.

    os-release(5) names it; older systems have a file of their distribution, systems of ostree have
    their roots below. One that nothing names, because its /usr lies elsewhere, is a Linux still.
    """
    found = _named_by_os_release(volume, "") or _named_by_release_file(volume)
    if found is None:
        for root in _ostree_roots(volume):
            found = found or _named_by_os_release(volume, root)
    if found is None and _looks_like_a_root(volume):
        return LinuxGuest("Linux without an os-release", "linux", "")
    return found


def _named_by_os_release(volume: Volume, root: str) -> LinuxGuest | None:
    for path in _OS_RELEASE_PATHS:
        data = _read(volume, root + path)
        if data:
            fields = parse_os_release(data)
            name = fields.get("PRETTY_NAME") or fields.get("NAME") or "Linux"
            return LinuxGuest(name, fields.get("ID", "linux"), fields.get("VERSION_ID", ""))
    return None


def _named_by_release_file(volume: Volume) -> LinuxGuest | None:
    for path, prefix in _RELEASE_FILES:
        lines = _read(volume, path).decode("utf-8-sig", "replace").split("\n")
        text = f"{prefix} {lines[0].strip()}".strip() if lines[0].strip() else ""
        if text:
            version = _VERSION.search(text)
            return LinuxGuest(text, text.split()[0].lower(), version[0] if version else "")
    return None


def _ostree_roots(volume: Volume) -> Iterator[str]:
    """The roots of the deployments, the one that was written last first."""
    found = []
    for system in _folders(volume, _OSTREE):
        for deployment in _folders(volume, f"{_OSTREE}/{system.name}/deploy"):
            path = f"{_OSTREE}/{system.name}/deploy/{deployment.name}/"
            found.append((deployment.modified, path))
    for _, path in sorted(found, reverse=True):
        yield path


def _folders(volume: Volume, path: str) -> list[Entry]:
    node = volume.find(path)
    if node is None or not node.is_directory:
        return []
    entries = (entry for entry in node.entries() if entry.is_directory)
    return list(islice(entries, _MAX_DEPLOYMENTS))


def _looks_like_a_root(volume: Volume) -> bool:
    there = [volume.find(path) is not None for path in ("etc/passwd", "etc/fstab")]
    folders = volume.find_many(("proc", "root", "sbin"))
    return any(there) and any(node is not None and node.is_directory for node in folders)


def _read(volume: Volume, path: str) -> bytes:
    node = volume.find(path)
    if node is None or node.is_directory:
        return b""
    try:
        return node.open().read_at(0, _MAX_OS_RELEASE_SIZE)
    except NotFound:  # a device
        return b""


def parse_os_release(data: bytes) -> dict[str, str]:
    """Return the assignments of an os-release file; other lines are ignored."""
    found: dict[str, str] = {}
    for line in data.decode("utf-8-sig", "replace").splitlines():
        match = _ASSIGNMENT.fullmatch(line.strip())
        if match is None:
            continue
        try:
            found[match[1]] = "".join(shlex.split(match[2]))
        except ValueError:  # a quote that is not closed
            found[match[1]] = match[2]
    return found
