"""A session with the emulated host without PowerShell: the script's work, done in Python.

It is cut at the contract of a host: the same operations and cmdlets with the same parameters,
results and errors as session.ps1 gives, and no script.
"""

from __future__ import annotations

import errno
import getpass
import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from imagetool.contracts import Event, OnEvent, Reference, Result
from imagetool.disk.local_files import LOCAL_FILES, time_of
from imagetool.errors import CannotOpen, HostFailed, ImagetoolError, NoFile
from imagetool.host.answers import CmdletFailed
from imagetool.host.frames import check_paths, check_properties
from imagetool.lab.binding import bind
from imagetool.lab.cmdlet import CmdletFailure, StreamRecord
from imagetool.lab.cmdlet_facts import cmdlets
from imagetool.lab.host_client import DoorSession
from imagetool.lab.locks import is_locked
from imagetool.lab.owned import delete_owned
from imagetool.lab.path_filter import show_generation
from imagetool.lab.undoing import Undoing, is_undone, undoing

_COPY_BYTES = 1 << 20
_SERVICING_SECONDS = 600.0
_SHARING_VIOLATION = 0x80070020
_ALREADY_EXISTS, _NOT_FOUND = 0x80070050, 0x80070002

Parameters = Mapping[str, object]
Answer = dict[str, object]


class StandIn:
    """A Host. `door` is the session with the emulated host behind it."""

    at_end: ExitStack | None = None
    """Closed when the session has ended."""

    def __init__(self, door: DoorSession, generation: str = "") -> None:
        self._door = door
        self._generation = generation
        self._files = _OpenFiles()
        self._owned: list[str] = []
        self._undo: list[Undoing] = []
        self._closed = False
        self._operations: dict[str, Callable[[Parameters], Answer]] = {
            "make-private-directory": self._make_private_directory,
            "make-directory": _make_directory,
            "remove-directory": _remove_directory,
            "remove-tree": _remove_tree,
            "servicing": self._servicing_processes,
            "close-hives": lambda p: {"closed": []},
            "stat": _stat,
            "copy": _copy,
            "sha256": _sha256,
            "rename": _rename,
            "delete": _delete,
            "write": _write,
            "in-use": lambda p: {"inuse": is_locked(_path(p))},
            "commit": self._commit,
            "forget": lambda p: {},
            "own": self._own,
            "make-temporary-directory": self._make_temporary_directory,
            "open": self._files.open,
            "ranges": self._files.read_ranges,
            "shut": self._files.shut,
            "list": _list_folders,
            "volume": _volume_facts,
            "facts": lambda p: self._host_facts(),
            "engine": lambda p: {"sha256": "", "runtime": platform.python_implementation()},
            "access": lambda p: {"access": f"mode {_path(p).stat().st_mode & 0o777:o}"},
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
            raise _explain(error).as_failed(operation) from None
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
        path = str(_path(parameters).absolute())
        self._owned.append(path)
        self._door.own(path)
        return {}

    def _make_private_directory(self, parameters: Parameters) -> Answer:
        path = _path(parameters).absolute()
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


class _OpenFiles:
    """The files that the session has open for reading, by the client's numbers."""

    def __init__(self) -> None:
        self._open: dict[object, BinaryIO] = {}

    def open(self, parameters: Parameters) -> Answer:
        """Open a file, and read ranges of it."""
        path = _path(parameters)
        target = str(path.resolve()) if path.is_symlink() else None
        if path.exists() and not path.is_file() and not path.is_dir():
            # A pipe or a device: opening one may block.
            ranges = parameters["ranges"]
            assert isinstance(ranges, list)
            empty: Answer = {"size": 0, "busy": False, "target": target}
            return empty | {"lengths": [0] * (len(ranges) // 3), "data": b""}
        _refuse_locked(path)
        file = path.open("rb")
        number = parameters["file"]
        if number in self._open:
            self._open[number].close()
        self._open[number] = file
        stat = path.stat()
        found: Answer = {"size": stat.st_size, "busy": False, "target": target}
        found["written"] = time_of(stat.st_mtime_ns)
        return found | self.read_ranges(parameters)

    def read_ranges(self, parameters: Parameters) -> Answer:
        """Read ranges: triples of file, offset and length."""
        ranges = parameters["ranges"]
        assert isinstance(ranges, list)
        parts = []
        for number, offset, length in zip(ranges[::3], ranges[1::3], ranges[2::3], strict=True):
            self._open[number].seek(offset)
            parts.append(self._open[number].read(length))
        packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        data = packer.compress(b"".join(parts)) + packer.flush()
        return {"lengths": [len(part) for part in parts], "data": data}

    def shut(self, parameters: Parameters) -> Answer:
        """Close a file; 0 stands for all."""
        wanted = parameters["file"]
        for number in list(self._open) if wanted == 0 else [wanted]:
            file = self._open.pop(number, None)
            if file is not None:
                file.close()
        return {}

    def close(self) -> None:
        """Close all files."""
        self.shut({"file": 0})


def _explain(error: OSError) -> CmdletFailure:
    message = f"{error.strerror}: '{error.filename}'" if error.filename else str(error)
    codes = {errno.EEXIST: _ALREADY_EXISTS, errno.ENOENT: _NOT_FOUND}
    code = codes.get(error.errno or 0, 0x80070000 | ((error.errno or 0) & 0xFFFF))
    return CmdletFailure(message, hresult=code, category="WriteError")


def _path(parameters: Parameters, name: str = "path") -> Path:
    return Path(str(parameters[name]))


def _make_directory(parameters: Parameters) -> Answer:
    _path(parameters).mkdir()
    return {}


def _remove_directory(parameters: Parameters) -> Answer:
    path = _path(parameters)
    if path.is_symlink():
        if not parameters["own"]:
            raise OSError(errno.ENOTDIR, "It is a mount point or link", str(path))
        path.unlink()
    elif path.exists():
        path.rmdir()
    return {}


def _remove_tree(parameters: Parameters) -> Answer:
    path = _path(parameters)
    if not re.fullmatch("it-[0-9a-f]{8}", path.parent.name):
        raise CmdletFailure(f"'{path}' is not in a directory of imagetool's.")
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
    return {}


def _stat(parameters: Parameters) -> Answer:
    path = _path(parameters)
    found = path.stat() if path.exists() else None
    return {
        "exists": found is not None,
        "directory": path.is_dir(),
        "size": found.st_size if found is not None and path.is_file() else 0,
        "written": time_of(found.st_mtime_ns) if found is not None else None,
        "attributes": 0,
    }


def _refuse_locked(path: Path) -> None:
    if is_locked(path, exclusive=False):
        raise CmdletFailure(
            f"The process cannot access the file '{path}' because it is being used by another "
            "process.",
            hresult=_SHARING_VIOLATION,
        )


def _copy(parameters: Parameters) -> Answer:
    source, target = _path(parameters, "source"), _path(parameters, "target")
    _refuse_locked(source)
    with source.open("rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, _COPY_BYTES)
    return {}


def _sha256(parameters: Parameters) -> Answer:
    _refuse_locked(_path(parameters))
    with _path(parameters).open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _rename(parameters: Parameters) -> Answer:
    source, target = _path(parameters, "source"), _path(parameters, "target")
    if target.exists():
        raise FileExistsError(errno.EEXIST, "File exists", str(target))
    source.rename(target)
    return {}


def _delete(parameters: Parameters) -> Answer:
    _path(parameters).unlink(missing_ok=True)
    return {}


def _write(parameters: Parameters) -> Answer:
    offset, data = parameters["offset"], parameters["data"]
    assert isinstance(data, bytes)
    with _path(parameters).open("r+b" if offset else "xb") as file:
        file.seek(offset if isinstance(offset, int) else 0)
        file.write(data)
    return {}


def _list_folders(parameters: Parameters) -> Answer:
    paths = parameters["paths"]
    assert isinstance(paths, list)
    return {"lists": [_list_folder(str(path)) for path in paths]}


def _list_folder(path: str) -> Answer:
    (found,) = LOCAL_FILES.list_folders([path])
    if isinstance(found, NoFile) or not os.path.isdir(path or "."):  # noqa: PTH112  # as .NET asks
        return {"missing": True}
    if isinstance(found, ImagetoolError):
        return {"error": found.message}
    return {
        "entries": [
            f"{'d' if entry.is_folder else 'f'}{entry.name}"
            + (f"\0{entry.link_target}" if entry.link_target else "")
            for entry in found
        ]
    }


def _volume_facts(parameters: Parameters) -> Answer:
    path = _path(parameters).absolute()
    usage = shutil.disk_usage(next(item for item in (path, *path.parents) if item.exists()))
    found: Answer = {"path": str(path), "kind": "Fixed", "system": ""}
    return found | {"free": usage.free, "size": usage.total}


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
