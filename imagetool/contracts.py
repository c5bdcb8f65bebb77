"""Contracts that several layers share and none of them owns: sources, files, hosts, results.

Files, disks, partitions, the data of a file in a volume and the pages of a hive are all sources,
stacked on each other. A source has no position, may be used from several threads, and gives fewer
bytes than asked for only at its end.

Whoever reads an image also reads what lies beside it: the parents of a differencing disk, the logs
of a hive. They are opened where the image itself was, by the path rules of that machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

from imagetool.budget import Budget
from imagetool.errors import HostFailed, ImagetoolError

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType

T = TypeVar("T")

Range = tuple[int, int]
"""Offset and length, in bytes."""

Task = Callable[[], object]
"""Something that reads, to be run together with others."""

_OTHER_SCRIPT_HINT = "Another version of the session's script may run there."


@runtime_checkable
class Source(Protocol):
    """Bytes that can be read at any offset."""

    @property
    def name(self) -> str:
        """The name in error messages: a path, or a path and something in it."""

    @property
    def size(self) -> int:
        """The length in bytes."""

    @property
    def budget(self) -> Budget:
        """What a question on it may cost: that of the file below, for all that is stacked on it."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`, fewer only where the source ends before."""

    def read_many(self, ranges: Sequence[Range]) -> list[bytes]:
        """Return what `read_at` gives for each range, asked of the layer below in one batch."""


@runtime_checkable
class OpenFile(Source, Protocol):
    """A file that is open for reading. Its `name` is what people call it."""

    @property
    def path(self) -> str:
        """The path, as `files` writes it."""

    @property
    def files(self) -> Files:
        """The files of the machine that it lies on."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Facts that a reader should know: that somebody else is writing to it."""

    def gather(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """Run tasks that do not depend on each other, and return their results in order.

        Where a read is a round trip their reads share them; elsewhere they run one after the
        other. When all have ended, the first failure in that order is raised.
        """

    def prefetch(self, tasks: Iterable[Task]) -> None:
        """Run tasks for the sake of what they read; their results and failures are dropped.

        Whoever reads the same later finds the bytes at hand. Within a task of `gather` they run
        beside it. Where a read is no round trip nothing is run, and `tasks` is not gone through.
        """

    def close(self) -> None:
        """Close the file; reading fails from then on."""


class FolderEntry(NamedTuple):
    """A name in a directory."""

    name: str
    is_folder: bool
    """True for a directory, and for a link to one."""
    link_target: str = ""
    """The path that a link to a directory leads to; empty for all else."""


class FileState(NamedTuple):
    """The state of a path. Size in bytes; time in UTC; attributes as in [MS-FSCC] 2.6."""

    exists: bool
    is_directory: bool = False
    size: int = 0
    last_written: datetime | None = None
    attributes: int = 0
    """0 where the system has none of the kind."""


class Files(Protocol):
    """The files of one machine."""

    @property
    def on_windows(self) -> bool:
        """True if its paths follow the rules of Windows."""

    def open(self, path: str, prefetch: Sequence[Range] = ()) -> OpenFile:
        """Open the file at `path`; `prefetch` is what is likely to be read of it first.

        Raises NoFile where there is none, EmptyFile, CannotOpen.
        """

    def list_folders(self, paths: Sequence[str]) -> list[tuple[FolderEntry, ...] | ImagetoolError]:
        """Return the entries of each directory, or its error: NoFile where it is none, CannotOpen.

        An empty path is the current directory. Raises HostFailed.
        """

    def stat(self, path: str) -> FileState:
        """Return the state of a path; `exists` is False where nothing is. Raises HostFailed."""

    def display_name(self, path: str) -> str:
        """Return the name of a path in messages: HOST:PATH on a host."""

    def folder(self, path: str) -> str:
        """Return the directory that a file lies in."""

    def join(self, folder: str, name: str) -> str:
        """Return the path of a file in a directory."""

    def canonical(self, path: str) -> str:
        """Return a path that is the same for all paths of one file, as far as they show it."""


class Reference(NamedTuple):
    """A result that is kept on the host; as a parameter of a later cmdlet it stands for it."""

    number: int


class Result(dict[str, object]):
    """The requested properties of one result of a cmdlet or operation."""

    reference: Reference | None = None
    """The object on the host, if the request asked to keep it."""
    data: bytes = b""
    """The payload of an operation."""

    def __missing__(self, name: str) -> object:
        raise HostFailed(f"the host's answer lacks {name!r}", hint=_OTHER_SCRIPT_HINT)

    def text(self, name: str) -> str:
        """Return a text. This and the next two raise HostFailed where it is none, or missing."""
        return self._typed(name, str)

    def integer(self, name: str) -> int:
        """Return an integer."""
        return self._typed(name, int)

    def flag(self, name: str) -> bool:
        """Return a truth value."""
        return self._typed(name, bool)

    def _typed(self, name: str, kind: type[T]) -> T:
        value = self[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise HostFailed(
                f"the host's answer has a {name!r} of a wrong type", hint=_OTHER_SCRIPT_HINT
            )
        return value


class Event(NamedTuple):
    """What is said while a cmdlet runs, by its `kind`: a "progress" or "warning" record of the
    cmdlet, or that imagetool is "waiting" for something on the host."""

    kind: str
    text: str
    percent: int | None = None


OnEvent = Callable[[Event], None]


class Host(Protocol):
    """A Hyper-V host to which a session is open: it runs cmdlets and operations of its script.

    Raises HostFailed where the host cannot be asked, CmdletFailed (imagetool.host) where a cmdlet
    reported an error.
    """

    @property
    def description(self) -> str:
        """The edition and version of the PowerShell on the host, for people."""

    @property
    def hello(self) -> Mapping[str, object]:
        """The first word of its script: versions, system, computer (host/frames.py)."""

    @property
    def on_windows(self) -> bool:
        """True if the host runs Windows, which decides the rules of its paths."""

    @property
    def emulated(self) -> bool:
        """True if its cmdlets are those of the emulated host."""

    @property
    def modules(self) -> Sequence[str]:
        """Those of the modules Hyper-V, Storage and Dism that are installed there."""

    def invoke(
        self,
        cmdlet: str,
        *,
        properties: Sequence[str] = (),
        keep: bool = False,
        deadline: float | None = None,
        on_event: OnEvent | None = None,
        **parameters: object,
    ) -> list[Result]:
        """Run a cmdlet with named parameters; return the named properties of each result."""

    def operate(
        self,
        operation: str,
        *,
        data: bytes | None = None,
        deadline: float | None = None,
        on_event: OnEvent | None = None,
        **parameters: object,
    ) -> Result:
        """Run an operation of session.ps1 itself; `data` is sent as its payload."""

    def close(self) -> None:
        """End the session: what it mounted is dismounted, what it owns is deleted."""

    def __enter__(self) -> Host:
        """Return the session, which `__exit__` closes."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the session."""


class Reportable:
    """A result that people and programs read: it can be written as a JSON document."""

    __slots__ = ()

    json_writer: ClassVar[Callable[[Reportable], str]]
    """Set by the public API: a result does not know the formats that it is written in."""

    @property
    def holds(self) -> bool:
        """True unless the result has a verdict that does not hold (exit code 1)."""
        return True

    def to_json(self) -> str:
        """Return the JSON document that the command line prints (docs/commands.md)."""
        return Reportable.json_writer(self)
