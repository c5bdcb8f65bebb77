"""The contract for files of this machine or of a host: opening and path operations.

Reading an image may need files beside it: the parents of a differencing disk, the logs of a hive.
They are opened on the machine of the image, by its path rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

from imagetool.disk.source import Range, Source

Question = Callable[[], object]


@runtime_checkable
class OpenFile(Source, Protocol):
    """A file that is open for reading. Its `name` is the one shown to people."""

    @property
    def path(self) -> str:
        """Its path, in the syntax of `files`."""

    @property
    def files(self) -> Files:
        """The files of its machine."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the file, such as that another process is writing to it."""

    def ahead(self, questions: Iterable[Question]) -> None:
        """Ask what will be asked later, so that the reads of all questions share round trips.

        Answers and failures are dropped: who asks again finds the bytes at hand. Where a read is no
        round trip nothing is asked, and `questions` is not gone through.
        """

    def close(self) -> None:
        """Close the file; reading fails from then on."""


class Files(Protocol):
    """The files of one machine."""

    def open(self, path: str, expected: Sequence[Range] = ()) -> OpenFile:
        """The file at `path`; `expected` is what will be read of it first, as far as one knows.

        Raises NoFile where there is none, EmptyFile, CannotOpen.
        """

    def folder(self, path: str) -> str:
        """The directory of a file."""

    def join(self, folder: str, name: str) -> str:
        """The path of a file in a directory."""

    def canonical(self, path: str) -> str:
        """The canonical path: the same for all paths of one file, as far as can be told."""


_KIB, _MIB = 1 << 10, 1 << 20
_EXPECTED = ((0, 64 * _KIB), (_MIB, 64 * _KIB))
_EXPECTED_OF_VHDX = (
    (0, 320 * _KIB),
    (2 * _MIB, 80 * _KIB),
    (3 * _MIB, 80 * _KIB),
    (4 * _MIB, 32 * _KIB),
    (5 * _MIB, 64 * _KIB),
)


def expected_ranges(path: str) -> Sequence[Range]:
    """The ranges of a disk of that name that are likely read first, for prefetching.

    For a VHDX: its headers, metadata and block allocation table as Hyper-V and QEMU place them, and
    the start of the disk and of its first partition as Hyper-V places them; for any other file
    the latter two. A wrong guess costs a few kilobytes.
    """
    return _EXPECTED_OF_VHDX if path.lower().endswith((".vhdx", ".avhdx")) else _EXPECTED
