"""Files on the host, through the script's own operations; nothing is ever overwritten."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from imagetool.errors import HostFailed, WrongUsage

if TYPE_CHECKING:
    from imagetool.host.session import Session

_UPLOAD_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Stat:
    """What a path is. Size in bytes; times in UTC; attributes as [MS-FSCC] 2.6 counts them."""

    exists: bool
    is_directory: bool
    size: int
    last_written: datetime | None
    attributes: int


class OnHost(str):
    """The path of a file that lies on the host already."""

    __slots__ = ()


class FileOperations:
    """The file operations of a session; paths are the host's. Each raises CmdletFailed."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._temporary: str | None = None

    def make_private_directory(self, path: str) -> None:
        """A new directory that only this user and the system see; fails where one is there."""
        self._session.operate("make-private-directory", path=path)

    def make_directory(self, path: str) -> None:
        """A new directory; fails where something is there already."""
        self._session.operate("make-directory", path=path)

    def remove_directory(self, path: str) -> None:
        """Remove a directory that is empty and no mount point; none there is fine."""
        self._session.operate("remove-directory", path=path)

    def stat(self, path: str) -> Stat:
        """What is at `path`, if anything."""
        found = self._session.operate("stat", path=path)
        size, written, attributes = found["size"], found["written"], found["attributes"]
        return Stat(
            exists=bool(found["exists"]),
            is_directory=bool(found["directory"]),
            size=size if isinstance(size, int) else 0,
            last_written=written if isinstance(written, datetime) else None,
            attributes=attributes if isinstance(attributes, int) else 0,
        )

    def copy(self, source: str, target: str) -> None:
        """Copy a file; fails where the target exists."""
        self._session.operate("copy", source=source, target=target)

    def sha256(self, path: str) -> str:
        """The SHA-256 of a file, in lower-case hexadecimal."""
        return str(self._session.operate("sha256", path=path)["sha256"])

    def rename(self, source: str, target: str) -> None:
        """Give a file another name; fails where the target exists."""
        self._session.operate("rename", source=source, target=target)

    def delete(self, path: str) -> None:
        """Delete a file; none there is fine."""
        self._session.operate("delete", path=path)

    def in_use(self, path: str) -> bool:
        """Whether another process holds the file open."""
        return bool(self._session.operate("in-use", path=path)["inuse"])

    def find(self, pattern: str) -> list[str]:
        """The paths on the host that fit a pattern (* ? [ ] in any part), sorted; a path without
        such marks as it is."""
        paths = self._session.operate("find", pattern=pattern)["paths"]
        return sorted(map(str, paths)) if isinstance(paths, list) else []

    def temporary_directory(self) -> str:
        """A private directory that goes, with the files in it, when the session ends."""
        if self._temporary is None:
            self._temporary = str(self._session.operate("make-temporary-directory")["path"])
        return self._temporary

    def deliver(
        self,
        file: bytes | OnHost,
        name: str,
        progress: Callable[[int, int], None] | None = None,
    ) -> str:
        """The path of a file for a cmdlet there: one that is on the host already as it is, bytes
        uploaded under `name` into the temporary directory. Raises WrongUsage for a name with
        directories, and as `upload`."""
        if isinstance(file, OnHost):
            return str(file)
        if name in ("", ".", "..") or any(mark in name for mark in "/\\:\0"):
            raise WrongUsage(f"{name!r} is no name of a file", hint="Leave directories out.")
        mark = "\\" if self._session.on_windows else "/"
        target = f"{self.temporary_directory()}{mark}{name}"
        self.upload(file, target, progress)
        return target

    def upload(
        self, data: bytes, target: str, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Write a file on the host; it gets its name only when its SHA-256 is the right one.

        `progress` is told how many bytes are there, of how many. Raises HostFailed where the bytes
        arrived changed, CmdletFailed where the target exists; nothing is left then.
        """
        part = f"{target}.part"
        try:
            for offset in range(0, max(len(data), 1), _UPLOAD_CHUNK_BYTES):
                chunk = data[offset : offset + _UPLOAD_CHUNK_BYTES]
                self._session.operate("write", path=part, offset=offset, data=chunk)
                if progress is not None:
                    progress(offset + len(chunk), len(data))
            if self.sha256(part) != hashlib.sha256(data).hexdigest():
                raise HostFailed(
                    f"{target}: the bytes arrived changed on the host",
                    hint="Try again; check the disk of the host.",
                )
            self.rename(part, target)
        except BaseException:
            with suppress(HostFailed):  # why it failed is what counts
                self.delete(part)
            raise
