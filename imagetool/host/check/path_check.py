"""The check of a path on a host: its volume, its attributes, and access to it."""

from __future__ import annotations

import contextlib
import ntpath
import posixpath
from collections.abc import Iterator

from imagetool.contracts import FileState, Host
from imagetool.host.answers import CmdletFailed
from imagetool.host.check.findings import UNKNOWN, HostFinding, State
from imagetool.host.configuration.address import ConfiguredHost
from imagetool.host.configuration.path_mapping import is_unc_path
from imagetool.host.files import FileOperations

_COMPRESSED, _SPARSE, _ENCRYPTED = 0x800, 0x200, 0x4000  # [MS-FSCC] 2.6
_MIN_FREE_BYTES = 1 << 30
_PROBE_FILE_NUMBER = 1 << 30
"""A file number that no reader of the session uses."""


def volume_finding(
    session: Host, name: str, path: str, *, access_paths: bool = False, required_bytes: int = 0
) -> HostFinding:
    """Return the finding on the volume of a directory.

    `access_paths`: True if partitions are to be mounted there, which needs a local NTFS.
    `required_bytes`: the free space that a copy of the image needs.
    """
    try:
        kind, system, free = _query_volume(session, path)
    except CmdletFailed as error:
        return HostFinding(name, State.FAILED, f"{path}: {error.host_message}", error.hint)
    found = f"{path}: {system or kind}, {_size(free)} free"
    if kind == "Network":
        found = f"{path}: on another machine"
    if not session.on_windows:
        return HostFinding(name, State.NOTE, f"{found}; whether an access path works is {UNKNOWN}")
    if kind != "Fixed" or system != "NTFS":
        advice = (
            "DISM's scratch directory and access paths need a local NTFS: point the account's "
            "TEMP to one."
            if access_paths
            else "Images are read there; an access path is not possible on it: service a copy on "
            "a local NTFS."
        )
        return HostFinding(name, State.FAILED if access_paths else State.NOTE, found, advice)
    if free < max(required_bytes, _MIN_FREE_BYTES):
        need = (
            f"A copy of the image needs {_size(required_bytes)}."
            if required_bytes
            else "DISM needs room there."
        )
        return HostFinding(name, State.NOTE, found, f"{need} Make room.")
    return HostFinding(name, State.OK, found)


def _query_volume(session: Host, path: str) -> tuple[str, str, int]:
    """Return drive type, file system and free bytes; of a mounted folder, those of its volume."""
    found = session.operate("volume", path=path)
    kind, system, free = found.text("kind"), found.text("system"), found["free"]
    if session.on_windows and kind != "Network":
        names = ("FileSystem", "DriveType", "SizeRemaining")
        with contextlib.suppress(CmdletFailed):
            for volume in session.invoke("Get-Volume", FilePath=path, properties=names):
                # A number, where the module's types are not loaded, is not used.
                drive, label = volume.get("DriveType"), volume.get("FileSystem")
                kind = drive if isinstance(drive, str) else kind
                system = label if isinstance(label, str) and label else system
                free = volume.get("SizeRemaining") or free
    return kind, system, free if isinstance(free, int) else 0


def _size(count: int) -> str:
    for unit, length in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count} bytes"


class PathCheck:
    """The check of an image or a directory on a host."""

    def __init__(self, host: ConfiguredHost, session: Host, path: str) -> None:
        self._host = host
        self._session = session
        self._path = path

    def findings(self) -> Iterator[HostFinding]:
        """Yield the findings on the path and its directory."""
        path, files = self._path, FileOperations(self._session)
        path_module = ntpath if self._session.on_windows else posixpath
        try:
            stat = files.stat(path)
        except CmdletFailed as error:
            yield HostFinding("path", State.FAILED, f"{path}: {error.host_message}", error.hint)
            return
        if not stat.exists:
            yield self._missing(path)
            return
        folder = path if stat.is_directory else path_module.dirname(path) or "."
        if not stat.is_directory:
            yield from self._image(path, stat)
        yield volume_finding(self._session, "directory", folder, required_bytes=stat.size)
        yield self._attributes("directory-attributes", folder, files.stat(folder).attributes, True)

    def _missing(self, path: str) -> HostFinding:
        if not is_unc_path(path):
            return HostFinding(
                "path",
                State.FAILED,
                f"{path}: there is nothing",
                "Check the spelling; the account may lack the right to see it.",
            )
        advice = "Check the spelling, and that the account may read the share."
        if self._host.remote and self._host.transport not in ("credssp", "basic"):
            advice = (
                f"A logon over WinRM with {self._host.transport} is not handed on to a share: use "
                'transport = "credssp", or "kerberos" with delegate = true; or copy the image to '
                "the host."
            )
        return HostFinding("path", State.FAILED, f"{path}: cannot be reached from the host", advice)

    def _image(self, path: str, stat: FileState) -> Iterator[HostFinding]:
        session = self._session
        try:
            opened = session.operate(
                "open", file=_PROBE_FILE_NUMBER, path=path, ranges=[_PROBE_FILE_NUMBER, 0, 512]
            )
            session.operate("shut", file=_PROBE_FILE_NUMBER)
        except CmdletFailed as error:
            yield HostFinding("path", State.FAILED, f"{path}: {error.host_message}", error.hint)
            return
        yield HostFinding("path", State.OK, f"{path}: {_size(stat.size)}, can be read")
        yield self._attributes("attributes", path, stat.attributes, False)
        try:
            busy = opened.flag("busy") or FileOperations(session).in_use(path)
        except CmdletFailed as error:
            yield HostFinding("in-use", State.NOTE, error.host_message, error.hint)
            return
        if busy:
            yield HostFinding(
                "in-use",
                State.NOTE,
                "another process holds it",
                "It can be read; it is serviced when no virtual machine and no backup holds it.",
            )
        else:
            yield HostFinding("in-use", State.OK, "nobody holds it")

    def _attributes(self, name: str, path: str, attributes: int, directory: bool) -> HostFinding:
        if not self._session.on_windows:
            return HostFinding(name, State.NOTE, UNKNOWN)
        remedies = [
            (_COMPRESSED, "compressed", f'compact /u "{path}"'),
            (_SPARSE, "sparse", f'fsutil sparse setflag "{path}" 0'),
            (_ENCRYPTED, "encrypted", f'cipher /d "{path}"'),
        ]
        wrong = [(word, remedy) for bit, word, remedy in remedies if attributes & bit]
        if not wrong:
            return HostFinding(name, State.OK, "neither compressed, sparse nor encrypted")
        return HostFinding(
            name,
            State.FAILED,
            f"{path}: {', '.join(word for word, _ in wrong)}",
            f"{'New images there cannot be mounted' if directory else 'It cannot be mounted'} "
            f"(0xC03A001A): {'; '.join(remedy for _, remedy in wrong)}",
        )
