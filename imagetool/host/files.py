"""File operations on the host, by the script's own operations; none overwrites a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from imagetool.contracts import FileState, Host, OnEvent
from imagetool.errors import HostFailed

_UPLOAD_CHUNK_BYTES = 1 << 20


class FileOperations:
    """The file operations of a session; paths are the host's. Each raises CmdletFailed."""

    def __init__(self, session: Host) -> None:
        self._session = session
        self._temporary: str | None = None

    def make_private_directory(self, path: str, *, own: bool = False) -> None:
        """Create a directory for this user, Administrators and SYSTEM only; fails if it exists.

        With `own` it is deleted when the session ends, as by `own`.
        """
        self._session.operate("make-private-directory", path=path, own=own)

    def make_directory(self, path: str) -> None:
        """Create a directory; fails where the path exists."""
        self._session.operate("make-directory", path=path)

    def remove_directory(self, path: str, *, own: bool = False) -> None:
        """Remove an empty directory; a missing one is no error.

        Of a mount point only itself, and only with `own`, for one of imagetool's.
        """
        self._session.operate("remove-directory", path=path, own=own)

    def remove_tree(self, path: str) -> None:
        """Remove a directory of imagetool's with all in it, of links and mount points themselves.

        A missing one is no error.
        """
        self._session.operate("remove-tree", path=path)

    def stat(self, path: str) -> FileState:
        """Return the state of `path`; `exists` is False where there is nothing."""
        found = self._session.operate("stat", path=path)
        written = found["written"]
        return FileState(
            exists=found.flag("exists"),
            is_directory=found.flag("directory"),
            size=found.integer("size"),
            last_written=written if isinstance(written, datetime) else None,
            attributes=found.integer("attributes"),
        )

    def create(self, path: str) -> None:
        """Create an empty file; fails where the path exists."""
        self._session.operate("write", path=path, offset=0, data=b"")

    def copy(self, source: str, target: str, on_event: OnEvent | None = None) -> None:
        """Copy a file; fails where the target exists."""
        self._session.operate("copy", source=source, target=target, on_event=on_event)

    def sha256(self, path: str, on_event: OnEvent | None = None) -> str:
        """Return the SHA-256 of a file, in lower-case hexadecimal."""
        return self._session.operate("sha256", path=path, on_event=on_event).text("sha256")

    def rename(self, source: str, target: str) -> None:
        """Rename a file; fails where the target exists."""
        self._session.operate("rename", source=source, target=target)

    def delete(self, path: str) -> None:
        """Delete a file; a missing one is no error."""
        self._session.operate("delete", path=path)

    def in_use(self, path: str) -> bool:
        """True if another process has the file open."""
        return self._session.operate("in-use", path=path).flag("inuse")

    def servicing_processes(self, parents: Sequence[int]) -> list[int]:
        """Return the processes of DISM that these processes have started, and that still run."""
        found = self._session.operate("servicing", parents=list(parents))["processes"]
        listed = found if isinstance(found, list) else []
        return [number for number in listed if isinstance(number, int)]

    def close_hives(self, directory: str) -> None:
        """Unload the hives that DISM has left loaded from a volume mounted in a directory."""
        self._session.operate("close-hives", directory=directory)

    def close_all(self) -> None:
        """Close every file that this session has open for reading, also by an interrupted read."""
        self._session.operate("shut", file=0)

    def list_names(self, path: str) -> list[str]:
        """Return the names in a directory, sorted; none where it is missing or cannot be listed."""
        lists = self._session.operate("list", paths=[path])["lists"]
        found = lists[0] if isinstance(lists, list) and lists else {}
        entries = found.get("entries") if isinstance(found, Mapping) else None
        if not isinstance(entries, list):
            return []
        return sorted(str(item)[1:].partition("\0")[0] for item in entries)

    def temporary_directory(self) -> str:
        """Return the path of a private directory, deleted with its files when the session ends."""
        if self._temporary is None:
            self._temporary = self._session.operate("make-temporary-directory").text("path")
        return self._temporary

    def own(self, path: str) -> None:
        """Have a file, or a directory with its files, deleted when the session ends, if there."""
        self._session.operate("own", path=path)

    @staticmethod
    def part_of(target: str) -> str:
        """Return the path of a file while it is uploaded."""
        return f"{target}.part"

    def upload(
        self, data: bytes, target: str, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Write a new file on the host, renamed to `target` once its SHA-256 was verified.

        `progress` is called with the bytes written and their total. Raises HostFailed where the
        bytes arrived changed, CmdletFailed where the target exists; no file is left then.
        """
        part = self.part_of(target)
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
        except BaseException:  # an interruption, too
            with suppress(HostFailed):  # the first error is the one to report
                self.delete(part)
            raise
