"""A session with the emulated host without PowerShell: the script's work, done in Python.

It is cut at the contract of a host: the same operations and cmdlets with the same parameters,
results and errors as session.ps1 gives, and no script.
"""

from __future__ import annotations

import errno
import getpass
import os
import platform
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from imagetool.contracts import Event, OnEvent, Reference, Result
from imagetool.errors import CannotOpen, HostFailed
from imagetool.host.answers import CmdletFailed
from imagetool.host.frames import check_paths, check_properties
from imagetool.lab.binding import bind
from imagetool.lab.cmdlet import CmdletFailure, StreamRecord
from imagetool.lab.cmdlet_facts import cmdlets
from imagetool.lab.host_client import DoorSession
from imagetool.lab.owned import delete_owned
from imagetool.lab.path_filter import show_generation
from imagetool.lab.stand_in_files import OPERATIONS, Answer, OpenFiles, Parameters, explain, path_of
from imagetool.lab.undoing import Undoing, is_undone, undoing

_SERVICING_SECONDS = 600.0


class StandIn:
    """A Host. `door` is the session with the emulated host behind it."""

    at_end: ExitStack | None = None
    """Closed when the session has ended."""

    def __init__(self, door: DoorSession, generation: str = "") -> None:
        self._door = door
        self._generation = generation
        self._files = OpenFiles()
        self._owned: list[str] = []
        self._undo: list[Undoing] = []
        self._closed = False
        self._operations: dict[str, Callable[[Parameters], Answer]] = {
            **OPERATIONS,
            "make-private-directory": self._make_private_directory,
            "servicing": self._servicing_processes,
            "close-hives": lambda p: {"closed": []},
            "commit": self._commit,
            "forget": lambda p: {},
            "own": self._own,
            "make-temporary-directory": self._make_temporary_directory,
            "open": self._files.open,
            "ranges": self._files.read_ranges,
            "shut": self._files.shut,
            "facts": lambda p: self._host_facts(),
            "engine": lambda p: {"sha256": "", "runtime": platform.python_implementation()},
            "echo": lambda p: {"value": p["value"]},
        }

    @property
    def description(self) -> str:
        """As Host.description."""
        return "Python in place of PowerShell"

    @property
    def hello(self) -> Mapping[str, object]:
        """As Host.hello."""
        hello: Answer = {
            "kind": "hello",
            "version": platform.python_version(),
            "edition": "Python",
            "language": "FullLanguage",
            "windows": self.on_windows,
            "emulated": True,
            "modules": list(self.modules),
            "system": platform.platform(),
            "computer": platform.node(),
            "process": os.getpid(),
        }
        return show_generation(hello, self._generation)

    @property
    def on_windows(self) -> bool:
        """As Host.on_windows."""
        return os.name == "nt"

    @property
    def emulated(self) -> bool:
        """As Host.emulated."""
        return True

    @property
    def modules(self) -> Sequence[str]:
        """As Host.modules."""
        return self._door.modules

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
        """As Host.invoke; results are not kept."""
        check_properties(properties)
        self._check(parameters)
        try:
            return self._call(cmdlet, properties, on_event, parameters)
        except CmdletFailure as failure:
            raise failure.as_failed(cmdlet) from None

    def _call(
        self,
        cmdlet: str,
        properties: Sequence[str],
        on_event: OnEvent | None,
        parameters: Answer,
    ) -> list[Result]:
        facts = cmdlets().get(cmdlet)
        if facts is None:
            raise CmdletFailure(
                f"The cmdlet {cmdlet} is not on the list of those that may be asked for.",
                category="PermissionDenied",
                error_id="NotAllowed",
            )
        bound = bind(facts, parameters)

        def report(record: StreamRecord) -> None:
            if on_event is not None:
                percent = record.percent if record.percent >= 0 else None
                on_event(Event(record.kind, record.text, percent))

        undone_by = undoing(cmdlet, bound)
        if undone_by is not None:  # also an interrupted one may have done its work
            self._undo.append(undone_by)
        try:
            results = self._door.call(cmdlet, bound, report)
        except CmdletFailure:
            if undone_by is not None:
                self._undo.remove(undone_by)
            raise
        self._undo = [item for item in self._undo if not is_undone(item, cmdlet, bound)]
        return [
            Result(
                {
                    name: list(result.properties) if name == "*" else result.properties.get(name)
                    for name in properties
                }
            )
            for result in results
        ]

    def operate(
        self,
        operation: str,
        *,
        data: bytes | None = None,
        deadline: float | None = None,
        on_event: OnEvent | None = None,
        **parameters: object,
    ) -> Result:
        """As Host.operate."""
        self._check(parameters)
        work = self._operations.get(operation)
        if work is None:
            raise CmdletFailed(operation, f"There is no operation {operation}.", 0, "", "")
        given = parameters if data is None else parameters | {"data": data}
        try:
            answer = work(given)
        except CmdletFailure as failure:
            raise failure.as_failed(operation) from None
        except OSError as error:
            raise explain(error).as_failed(operation) from None
        result = Result(answer)
        payload = result.pop("data", b"")
        result.data = payload if isinstance(payload, bytes) else b""
        return result

    def _check(self, parameters: Answer) -> None:
        if self._closed:
            raise HostFailed("the session is closed", hint="Open another.")
        check_paths(parameters)
        if any(isinstance(value, Reference) for value in parameters.values()):
            raise CannotOpen("the emulated host without PowerShell keeps no results")

    # Operations on what the session holds

    def _commit(self, parameters: Parameters) -> Answer:
        self._undo.clear()
        return {}

    def _servicing_processes(self, parameters: Parameters) -> Answer:
        given = {"ClassName": "Win32_Process", "Filter": "Name = 'dismhost.exe'"}
        found = self._door.call("Get-CimInstance", given, lambda record: None)
        parents = parameters["parents"]
        assert isinstance(parents, list)
        processes = [item.properties for item in found]
        return {
            "processes": [
                item["ProcessId"] for item in processes if item["ParentProcessId"] in parents
            ]
        }

    def _host_facts(self) -> Answer:
        answer = show_generation({"properties": _host_facts()}, self._generation)
        facts = answer["properties"]
        assert isinstance(facts, dict)
        return facts

    def _own(self, parameters: Parameters) -> Answer:
        path = str(path_of(parameters).absolute())
        self._owned.append(path)
        self._door.own(path)
        return {}

    def _make_private_directory(self, parameters: Parameters) -> Answer:
        path = path_of(parameters).absolute()
        if path.exists():
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        if parameters["own"]:
            self._own({"path": str(path)})  # before it is there: this process may be killed
        path.mkdir(mode=0o700)
        return {}

    def _make_temporary_directory(self, parameters: Parameters) -> Answer:
        path = str(Path(tempfile.gettempdir(), f"imagetool-{uuid.uuid4().hex}"))
        self._make_private_directory({"path": path, "own": True})
        return {"path": path}

    def close(self) -> None:
        """As Host.close."""
        if self._closed:
            return
        self._closed = True
        self._files.close()
        try:
            if self._undo and self._wait_for_servicing():
                for item in reversed(self._undo):
                    _call_at_end(self._door, item)
            delete_owned(self._owned)
        finally:
            if self.at_end is not None:
                self.at_end.close()

    def _wait_for_servicing(self) -> bool:
        """True once no process of DISM is left that this one has started, as in session.ps1."""
        end = time.monotonic() + _SERVICING_SECONDS
        with suppress(CmdletFailure, HostFailed):
            while self._servicing_processes({"parents": [os.getpid()]})["processes"]:
                if time.monotonic() > end:
                    return False
                time.sleep(min(1.0, _SERVICING_SECONDS))
        return True

    def __enter__(self) -> StandIn:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _call_at_end(door: DoorSession, item: Undoing) -> None:
    try:
        door.call(item.cmdlet, item.parameters, lambda record: None)
    except (CmdletFailure, HostFailed):
        return  # nobody is left to tell


def _host_facts() -> Answer:
    return {
        "user": getpass.getuser(),
        "domain": platform.node(),
        "computer": platform.node(),
        "system": platform.platform(),
        "now": datetime.now(UTC),
        "temporary": tempfile.gettempdir(),
        "elevated": None,
        "filtered": None,
        "authentication": "",
        "dism": "",
        "iso": None,
        "product": "",
    }
