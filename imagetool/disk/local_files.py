"""Files of this machine: Files and OpenFile on the local file system."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from imagetool.budget import Budget
from imagetool.contracts import FileState, FolderEntry, Range, Task
from imagetool.disk.links import is_link
from imagetool.errors import CannotOpen, EmptyFile, ImagetoolError, NoFile

T = TypeVar("T")

_HAS_PREAD = hasattr(os, "pread")
_OPEN_FLAGS = os.O_RDONLY
for _name in ("O_BINARY", "O_CLOEXEC", "O_NONBLOCK"):  # the last: opening a pipe must not block
    _OPEN_FLAGS |= getattr(os, _name, 0)


def _is_a_directory(path: str | Path) -> NoFile:
    return NoFile(f"{path}: this is a directory", hint="Name a file in it.")


def _cannot(path: str | Path, refusal: str, error: Exception, hint: str = "") -> CannotOpen:
    """The error of a file or directory that the system refuses, by the reason that it gives."""
    if getattr(error, "errno", None) == errno.ENAMETOOLONG:  # whichever of both it would have been
        return CannotOpen(
            f"{path}: the name is too long for this system", hint="Name it by a shorter path."
        )
    reason = getattr(error, "strerror", None) or str(error)
    return CannotOpen(f"{path}: {refusal}: {reason}", hint=hint)


class FileSource:
    """A local file, open for reading. Close it, or use it as a context manager.

    Raises NoFile if there is none, EmptyFile, CannotOpen if access is denied or reading fails.
    """

    warnings: tuple[str, ...] = ()

    __slots__ = ("_descriptor", "_lock", "budget", "name", "size")

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        self.budget = Budget()
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, _OPEN_FLAGS)
            state = os.fstat(self._descriptor)
            if stat.S_ISDIR(state.st_mode):
                self.close()
                raise _is_a_directory(path)
            if not (stat.S_ISREG(state.st_mode) or stat.S_ISBLK(state.st_mode)):
                self.close()
                raise NoFile(
                    f"{path}: this is a pipe or a device, which cannot be read at any place",
                    hint="Name a file, or copy its content into one.",
                )
            # fstat gives no size for a block device; seeking to its end does.
            self.size = state.st_size or os.lseek(self._descriptor, 0, os.SEEK_END)
        except FileNotFoundError:
            raise NoFile(
                f"{path}: there is no such file", hint="Check the path; quote names with spaces."
            ) from None
        except PermissionError:
            if Path(path).is_dir():  # the error of Windows for a directory
                raise _is_a_directory(path) from None
            raise CannotOpen(
                f"{path}: permission to read it is denied",
                hint="Run as a user who may read it; a running virtual machine holds its disks.",
            ) from None
        except (OSError, ValueError) as error:
            self.close()
            raise _cannot(path, "cannot be opened", error) from None
        if not self.size:
            self.close()
            raise EmptyFile(
                f"{path}: the file is empty", hint="Copy it again: the copy may have failed."
            )
        self._lock = threading.Lock()

    @property
    def path(self) -> str:
        """As OpenFile.path."""
        return self.name

    @property
    def files(self) -> LocalFiles:
        """As OpenFile.files."""
        return LOCAL_FILES

    def gather(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """As OpenFile.gather: one after the other."""
        return [task() for task in tasks]

    def prefetch(self, tasks: Iterable[Task]) -> None:
        """As OpenFile.prefetch: a read here is no round trip."""

    def read_at(self, offset: int, length: int) -> bytes:
        """As Source.read_at."""
        length = min(length, self.size - offset)
        if offset < 0 or length <= 0:
            return b""
        try:
            if _HAS_PREAD:
                data = os.pread(self._descriptor, length, offset)
                while len(data) < length and (more := self._read_rest(offset, length, len(data))):
                    data += more
                return data
            with self._lock:
                os.lseek(self._descriptor, offset, os.SEEK_SET)
                return os.read(self._descriptor, length)
        except OSError as error:
            raise CannotOpen(
                f"{self.name}: reading {length} bytes at offset {offset} failed: {error.strerror}",
                hint="Check the disk or share that the file lies on.",
            ) from None

    def _read_rest(self, offset: int, length: int, done: int) -> bytes:
        """Read the rest of a short read (the system returns at most 2 GiB at a time)."""
        return os.pread(self._descriptor, length - done, offset + done)

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """As Source.read_many."""
        return [self.read_at(offset, length) for offset, length in ranges]

    def close(self) -> None:
        """Close the file; reading fails from then on."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> FileSource:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def time_of(nanoseconds: int) -> datetime:
    """Return a time of the system (nanoseconds since 1970) in UTC, cut to microseconds."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)


class LocalFiles:
    """The files of this machine (imagetool.contracts.Files)."""

    on_windows = os.name == "nt"

    def open(self, path: str, prefetch: Sequence[Range] = ()) -> FileSource:
        """As Files.open."""
        return FileSource(path)

    def list_folders(self, paths: Sequence[str]) -> list[tuple[FolderEntry, ...] | ImagetoolError]:
        """As Files.list_folders."""
        return [_list_folder(path) for path in paths]

    def stat(self, path: str) -> FileState:
        """As Files.stat."""
        try:
            found = os.stat(path)  # noqa: PTH116  # texts, as on any machine
        except (OSError, ValueError):
            return FileState(False)
        is_directory = stat.S_ISDIR(found.st_mode)
        attributes = getattr(found, "st_file_attributes", 0)
        size = 0 if is_directory else found.st_size
        return FileState(True, is_directory, size, time_of(found.st_mtime_ns), attributes)

    def display_name(self, path: str) -> str:
        """As Files.display_name: the path itself."""
        return path

    def folder(self, path: str) -> str:
        """As Files.folder: links are followed first."""
        return os.path.dirname(os.path.realpath(path))  # noqa: PTH120  # texts, as on any machine

    def join(self, folder: str, name: str) -> str:
        """As Files.join."""
        return os.path.join(folder, name)  # noqa: PTH118  # texts

    def canonical(self, path: str) -> str:
        """As Files.canonical: links are followed."""
        return os.path.realpath(path)


def _list_folder(path: str) -> tuple[FolderEntry, ...] | ImagetoolError:
    try:
        with os.scandir(path or ".") as entries:
            return tuple(_folder_entry(entry) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return NoFile(f"{path}: there is no such directory", hint="Check the path.")
    except (OSError, ValueError) as error:
        hint = "Run as a user who may read it, or name the images one by one."
        return _cannot(path, "the directory cannot be listed", error, hint)


def _folder_entry(entry: os.DirEntry[str]) -> FolderEntry:
    try:
        is_folder = entry.is_dir()
        linked = is_folder and is_link(entry)
    except OSError:  # a link that leads to itself
        return FolderEntry(entry.name, False)
    return FolderEntry(entry.name, is_folder, os.path.realpath(entry.path) if linked else "")


LOCAL_FILES = LocalFiles()
"""The files of this machine."""
