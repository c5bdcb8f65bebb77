"""Where files lie: on this machine, or on another that offers the same.

Who reads an image also reads what lies beside it: the parents of a differencing disk, the logs of a
hive. They are opened where the image itself was, by that place's own rules for paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

from imagetool.disk.source import Range, Source

Question = Callable[[], object]


@runtime_checkable
class OpenFile(Source, Protocol):
    """A file that is open for reading. Its `name` is what people call it."""

    @property
    def path(self) -> str:
        """Where it lies, as `files` writes it."""

    @property
    def files(self) -> Files:
        """The files that it lies among."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader should know: that somebody else is writing to it."""

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
        """The directory that a file lies in."""

    def join(self, folder: str, name: str) -> str:
        """The path of a file in a directory."""

    def canonical(self, path: str) -> str:
        """A path that is the same for all paths of one file, as far as they show it."""


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
    """What is read first of a disk of that name, as far as one knows before it is open.

    Of a VHDX its headers, metadata and block allocation table where Hyper-V and QEMU put them, and
    the beginning of the disk and of its first partition where Hyper-V does; of any other file the
    latter two. A wrong guess costs a few kilobytes.
    """
    return _EXPECTED_OF_VHDX if path.lower().endswith((".vhdx", ".avhdx")) else _EXPECTED
