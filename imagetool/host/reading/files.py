"""The files of a host, read through its session in few requests.

A batch of ranges is one request, and so are the batches of several tasks that run together. Pages
are cached, up to a limit. For figures see docs/architecture.md ("Reading over a wire").
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from imagetool.contracts import FileState, FolderEntry, Host, Range, Result, Task
from imagetool.errors import CannotOpen, EmptyFile, HostFailed, ImagetoolError
from imagetool.host.answers import CmdletFailed
from imagetool.host.files import FileOperations
from imagetool.host.reading import paths
from imagetool.host.reading.batcher import ReadBatcher
from imagetool.host.reading.file import HostFile
from imagetool.host.reading.folders import folder_list
from imagetool.host.reading.open_errors import open_error
from imagetool.host.reading.pages import (
    MAX_REQUEST_BYTES,
    PAGE_SIZE,
    AccessProfile,
    PageCache,
    coalesce_pages,
    count_runs,
    decode_ranges,
    pages_of,
)

T = TypeVar("T")

MAX_CACHED_BYTES = 32 << 20
"""Bytes of cached pages at most, of all files together."""
_READAHEAD_PAGES = 16
"""Pages of readahead in one request, shared by its isolated reads, as a rule: 64 KB."""

MAX_RANGES_FOR_READAHEAD = 2
"""Runs of missing pages up to which one read gets readahead around them. A read that misses more
has a list, and needs no neighbours of its entries."""

_numbers = itertools.count(1)

PageKey = tuple[int, int]
"""(file number, page number)."""
FetchedPages = Mapping[PageKey, bytes]


class HostFiles:
    """The files of a session's host (imagetool.contracts.Files).

    `host` is the name displayed in front of a path. With `lazy_close` a closed file stays open on
    the host until the next one is opened or the session ends: that saves one exchange per file, and
    suits callers that only read. Once the session has failed, every later request fails at once.
    """

    def __init__(self, session: Host, host: str = "", *, lazy_close: bool = False) -> None:
        self.session = session
        self.host = host
        self._lazy_close = lazy_close
        self._free_numbers: list[int] = []
        self._pages = PageCache(MAX_CACHED_BYTES // PAGE_SIZE)
        self._profiles: dict[str, AccessProfile] = {}
        self._lock = threading.RLock()
        self._failure: HostFailed | None = None
        self._batcher: ReadBatcher[tuple[HostFile, Sequence[int]], FetchedPages] = ReadBatcher(
            self._fetch
        )

    # Paths

    def folder(self, path: str) -> str:
        """As Files.folder, by the rules of the host's system; links are not followed."""
        return paths.dirname(path, self.session.on_windows)

    def join(self, folder: str, name: str) -> str:
        """As Files.join."""
        return paths.join(folder, name, self.session.on_windows)

    def canonical(self, path: str) -> str:
        """As Files.canonical."""
        return paths.canonical(path, self.session.on_windows)

    def display_name(self, path: str) -> str:
        """As Files.display_name."""
        return f"{self.host}:{path}" if self.host else path

    @property
    def on_windows(self) -> bool:
        """As Files.on_windows."""
        return self.session.on_windows

    def list_folders(self, paths: Sequence[str]) -> list[tuple[FolderEntry, ...] | ImagetoolError]:
        """As Files.list_folders, in one request. Raises HostFailed."""
        answer = self._operate(self.display_name(paths[0]), "list", paths=list(paths)).get("lists")
        found = answer if isinstance(answer, list) else []
        if len(found) != len(paths):
            name = self.display_name(paths[0])
            raise self._mark_failed(HostFailed(f"{name}: the host lists other directories"))
        return [
            folder_list(self.display_name(path), item)
            for path, item in zip(paths, found, strict=True)
        ]

    def stat(self, path: str) -> FileState:
        """As Files.stat."""
        return FileOperations(self.session).stat(path)

    def _open_error(self, path: str, error: CmdletFailed) -> HostFailed | CannotOpen:
        return open_error(self.display_name(path), path, error, self.session.on_windows)

    # Opening and closing

    def open(self, path: str, prefetch: Sequence[Range] = ()) -> HostFile:
        """As Files.open: one request, which also fetches `prefetch` and the predicted pages.

        Raises NoFile, EmptyFile, CannotOpen, HostFailed.
        """
        name = self.display_name(path)
        profile = self._profiles.setdefault(path.rpartition(".")[2].lower()[:8], AccessProfile())
        predicted = profile.predicted_pages()
        pages = predicted.union(*(pages_of(*item) for item in prefetch))
        with self._lock:
            number = self._free_numbers.pop() if self._free_numbers else next(_numbers)
            ranges = coalesce_pages(pages, MAX_REQUEST_BYTES)
            try:
                answer = self._operate(
                    name,
                    "open",
                    file=number,
                    path=path,
                    ranges=[value for item in ranges for value in (number, *item)],
                )
            except CmdletFailed as error:
                self._free_numbers.append(number)
                raise self._open_error(path, error) from None
            size = answer.get("size")
            if isinstance(size, bool) or not isinstance(size, int) or size < 0:
                raise self._mark_failed(
                    HostFailed(f"{name}: the host says that its size is {size!r}")
                )
            file = HostFile(
                self, number, path, size, answer.get("busy") is True, profile, predicted
            )
            target = answer.get("target")
            if isinstance(target, str) and target:
                file.path = target  # parents lie beside the link's target
            self._store(answer, [(file, *item) for item in ranges])
        if not size:
            file.close()
            raise EmptyFile(
                f"{name}: the file is empty", hint="Copy it again: the copy may have failed."
            )
        return file

    def close_file(self, file: HostFile) -> None:
        """Drop a closed file's pages, and close it on the host, now or later (`lazy_close`)."""
        with self._lock:
            self._pages.discard_file(file.number)
            self._free_numbers.append(file.number)
            if not self._lazy_close:
                self.close_pending()

    def close_pending(self) -> None:
        """Close on the host the files that were closed here."""
        with self._lock:
            while self._free_numbers:
                with suppress(HostFailed):
                    self._operate("", "shut", file=self._free_numbers.pop())

    # Reading

    def read_pages(self, file: HostFile, numbers: Iterable[int]) -> dict[int, bytes]:
        """Return these pages of a file: cached, else by one request or in the round."""
        found: dict[int, bytes] = {}
        missing: list[int] = []
        with self._lock:
            for page in numbers:
                data = self._pages.get(file.number, page)
                if data is None:
                    missing.append(page)
                else:
                    found[page] = data
        if missing:
            fetched = self._batcher.fetch((file, missing))
            for page in missing:
                found[page] = fetched[file.number, page]
        return found

    def gather(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """As OpenFile.gather."""
        return self._batcher.gather(tasks)

    def prefetch(self, tasks: Iterable[Task]) -> None:
        """As OpenFile.prefetch."""
        self._batcher.prefetch(tasks)

    def _fetch(self, wants: Sequence[tuple[HostFile, Sequence[int]]]) -> FetchedPages:
        """Fetch the pages that several readers miss, with readahead, in one request.

        In several where they exceed MAX_REQUEST_BYTES.
        """
        with self._lock:
            found: dict[PageKey, bytes] = {}
            missing: dict[HostFile, set[int]] = {}
            isolated: dict[HostFile, set[int]] = {}
            for file, pages in wants:
                fresh = set[int]()
                for page in pages:
                    data = self._pages.get(file.number, page)
                    if data is None:
                        fresh.add(page)
                    else:
                        found[file.number, page] = data
                missing.setdefault(file, set()).update(fresh)
                if count_runs(fresh) <= MAX_RANGES_FOR_READAHEAD:
                    isolated.setdefault(file, set()).update(fresh)
            room = MAX_REQUEST_BYTES // PAGE_SIZE - sum(map(len, missing.values()))
            count = sum(map(count_runs, isolated.values()))
            file_ranges: list[tuple[HostFile, int, int]] = []
            for file, needed in missing.items():
                near = file.readahead_pages(
                    needed, isolated.get(file, set()), _READAHEAD_PAGES // max(count, 1)
                )
                around = [page for page in near if not self._pages.has(file.number, page)]
                around = around[: max(room, 0)]
                room -= len(around)
                file_ranges += [
                    (file, *item)
                    for item in coalesce_pages(needed.union(around), MAX_REQUEST_BYTES)
                ]
            for part in _split_into_requests(file_ranges):
                ranges = [value for file, *item in part for value in (file.number, *item)]
                try:
                    answer = self._operate(part[0][0].name, "ranges", ranges=ranges)
                except CmdletFailed as error:
                    raise CannotOpen(
                        f"{part[0][0].name}: reading it on the host failed: {error.message}",
                        hint="Check the disk or share that the file lies on.",
                    ) from None
                found |= self._store(answer, part)
            return found

    def _store(
        self, answer: Result, file_ranges: Sequence[tuple[HostFile, int, int]]
    ) -> FetchedPages:
        """Cache and return the pages in an answer.

        Raises HostFailed where it is malformed, CannotOpen where the file became shorter.
        """
        expected_lengths = [
            max(0, min(length, file.size - offset)) for file, offset, length in file_ranges
        ]
        lengths = answer.get("lengths")
        if isinstance(lengths, list) and len(lengths) == len(expected_lengths):
            for (file, offset, _), length, size in zip(
                file_ranges, lengths, expected_lengths, strict=True
            ):
                if isinstance(length, int) and 0 <= length < size:
                    raise CannotOpen(
                        f"{file.name}: {size} bytes at offset {offset} could not be read: the file "
                        "has become shorter while it was read",
                        hint="Somebody changes it: wait, then read it again.",
                    )
        try:
            parts = decode_ranges(answer.data, lengths, expected_lengths, self.host)
        except HostFailed as error:
            raise self._mark_failed(error) from None
        found: dict[PageKey, bytes] = {}
        for (file, offset, _), data in zip(file_ranges, parts, strict=True):
            for start in range(0, len(data), PAGE_SIZE):
                page = (offset + start) // PAGE_SIZE
                found[file.number, page] = data[start : start + PAGE_SIZE]
                self._pages.put(file.number, page, found[file.number, page])
        return found

    def _operate(self, name: str, operation: str, **parameters: Any) -> Result:
        if self._failure is not None:
            raise HostFailed(
                f"{name}: not read, for the host failed before: {self._failure.message}",
                hint=self._failure.hint,
            )
        try:
            return self.session.operate(operation, **parameters)
        except CmdletFailed:
            raise
        except HostFailed as error:
            raise self._mark_failed(error) from None

    def _mark_failed(self, error: HostFailed) -> HostFailed:
        """Record the failure, so that no more requests are sent; return it."""
        self._failure = error
        return error


def _split_into_requests(
    file_ranges: Sequence[tuple[HostFile, int, int]],
) -> list[list[tuple[HostFile, int, int]]]:
    """Group ranges into requests of MAX_REQUEST_BYTES at most."""
    requests: list[list[tuple[HostFile, int, int]]] = []
    room = 0
    for item in file_ranges:
        if item[2] > room:
            requests.append([])
            room = MAX_REQUEST_BYTES
        requests[-1].append(item)
        room -= item[2]
    return requests
