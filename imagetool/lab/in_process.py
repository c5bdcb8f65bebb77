"""The session's script in Python, for machines without PowerShell, with the same frames."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import queue
import shutil
import tempfile
import threading
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from imagetool.disk.local_files import LOCAL_FILES, time_of
from imagetool.errors import HostFailed, ImagetoolError, NoFile
from imagetool.host.frames import AnswerFrame, RequestFrame, decode_bytes, encode_bytes
from imagetool.lab.binding import bind
from imagetool.lab.cmdlet import CmdletFailure, StreamRecord
from imagetool.lab.cmdlet_facts import cmdlets
from imagetool.lab.emulated_host import EmulatedHost

_END_OF_INPUT = b""


class InProcessTransport:
    """A Transport whose other end is a thread of this process, which answers as session.ps1."""

    def __init__(self, emulated_host: EmulatedHost) -> None:
        self._emulated_host = emulated_host
        self._input: queue.Queue[bytes] = queue.Queue()
        self._open_files: dict[object, BinaryIO] = {}
        self._owned: list[Path] = []
        self._output: queue.Queue[bytes] = queue.Queue()
        self._ended = False
        self._sent_answers: dict[int, list[bytes]] = {}
        self._operations: dict[str, Callable[[dict[str, object]], dict[str, object]]] = {
            "make-private-directory": _make_private_directory,
            "make-directory": _make_directory,
            "remove-directory": _remove_directory,
            "stat": _stat,
            "copy": _copy,
            "sha256": _sha256,
            "rename": _rename,
            "delete": _delete,
            "write": _write,
            "in-use": lambda p: {"inuse": False},
            "commit": lambda p: {},
            "forget": lambda p: {},
            "own": self._own,
            "make-temporary-directory": self._make_temporary_directory,
            "open": self._open_file,
            "ranges": self._read_ranges,
            "shut": self._close_file,
            "list": _list_folders,
            "volume": _volume_facts,
            "facts": lambda p: _host_facts(),
            "engine": lambda p: {"sha256": "", "runtime": platform.python_implementation()},
            "access": lambda p: {"access": f"mode {_path(p).stat().st_mode & 0o777:o}"},
            "echo": lambda p: {"value": p["value"]},
        }
        hello = {
            "protocol": 3,
            "version": platform.python_version(),
            "edition": "Python",
            "language": "FullLanguage",
            "windows": os.name == "nt",
            "emulated": True,
            "modules": ["Hyper-V", "Storage", "Dism"],
            "system": platform.platform(),
            "computer": platform.node(),
            "process": os.getpid(),
        }
        self._send_answer(AnswerFrame(0, "hello", hello))
        self._thread = threading.Thread(target=self._run, name="host", daemon=True)
        self._thread.start()

    def _send_answer(self, answer: AnswerFrame, data: bytes | None = None) -> None:
        line = answer.encode() + (encode_bytes(data) if data is not None else b"")
        if answer.kind not in ("progress", "again"):
            self._sent_answers.setdefault(answer.number, []).append(line)
        self._enqueue_lines(line)

    def _enqueue_lines(self, lines: bytes) -> None:
        for line in lines.splitlines(keepends=True):
            self._output.put(line)

    def send(self, data: bytes) -> None:
        """As Transport.send."""
        if self._ended:
            raise HostFailed("the emulated host has ended")
        for line in data.splitlines(keepends=True):
            self._input.put(line)

    def reconnect(self) -> None:
        """Do nothing: a queue cannot break."""

    def receive_line(self, timeout: float) -> bytes | None:
        """As Transport.receive_line."""
        try:
            return self._output.get(timeout=timeout)
        except queue.Empty:
            if self._ended:
                raise HostFailed("the emulated host has ended") from None
            return None

    def close(self) -> None:
        """As Transport.close."""
        self._input.put(_END_OF_INPUT)
        self._thread.join(timeout=600)
        self._ended = True
        for file in self._open_files.values():
            file.close()
        for path in reversed(self._owned):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _run(self) -> None:
        while line := self._input.get():
            if not line.strip():
                continue
            request = RequestFrame.decode(line)
            if request.data is not None:
                request = replace(request, data=decode_bytes(self._input.get()))
                request.parameters["data"] = request.data
            if request.operation in ("renew", "cancel", "close"):
                continue
            if request.attempt:
                self._send_answer(
                    AnswerFrame(request.number, "again", {"attempt": request.attempt})
                )
            if request.number in self._sent_answers:
                for answer_line in self._sent_answers[request.number]:
                    self._enqueue_lines(answer_line)
                continue
            self._sent_answers = {request.number: []}  # only the latest request can be sent again
            try:
                for properties in self._execute(request):
                    self._send_result(request.number, properties)
            except CmdletFailure as failure:
                self._send_error(request, failure)
            except OSError as error:
                message = f"{error.strerror}: '{error.filename}'" if error.filename else str(error)
                code = 0x80070000 | ((error.errno or 0) & 0xFFFF)
                self._send_error(
                    request, CmdletFailure(message, hresult=code, category="WriteError")
                )
            self._send_answer(AnswerFrame(request.number, "end"))

    def _send_result(self, number: int, properties: dict[str, object]) -> None:
        data = properties.pop("data", None)
        if not isinstance(data, bytes):
            self._send_answer(AnswerFrame(number, "result", {"properties": properties}))
            return
        content: dict[str, object] = {"properties": properties, "bytes": len(data)}
        self._send_answer(AnswerFrame(number, "result", content), data)

    def _make_temporary_directory(self, parameters: dict[str, object]) -> dict[str, object]:
        path = Path(tempfile.mkdtemp(prefix="imagetool-"))
        self._owned.append(path)
        return {"path": str(path)}

    def _own(self, parameters: dict[str, object]) -> dict[str, object]:
        self._owned.append(_path(parameters))
        return {}

    def _open_file(self, parameters: dict[str, object]) -> dict[str, object]:
        path = _path(parameters)
        target = str(path.resolve()) if path.is_symlink() else None
        if path.exists() and not path.is_file() and not path.is_dir():
            # A pipe or a device: opening one may block.
            ranges = parameters["ranges"]
            assert isinstance(ranges, list)
            empty: dict[str, object] = {"size": 0, "busy": False, "target": target}
            return empty | {"lengths": [0] * (len(ranges) // 3), "data": b""}
        file = path.open("rb")
        self._close_file(parameters)
        self._open_files[parameters["file"]] = file
        stat = path.stat()
        written = time_of(stat.st_mtime_ns)
        found: dict[str, object] = {"size": stat.st_size, "busy": False, "written": written}
        found["target"] = target
        return found | self._read_ranges(parameters)

    def _read_ranges(self, parameters: dict[str, object]) -> dict[str, object]:
        ranges = parameters["ranges"]
        assert isinstance(ranges, list)
        parts = []
        for file, offset, length in zip(ranges[::3], ranges[1::3], ranges[2::3], strict=True):
            self._open_files[file].seek(offset)
            parts.append(self._open_files[file].read(length))
        packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
        data = packer.compress(b"".join(parts)) + packer.flush()
        return {"lengths": [len(part) for part in parts], "data": data}

    def _close_file(self, parameters: dict[str, object]) -> dict[str, object]:
        number = parameters["file"]
        for key in list(self._open_files) if number == 0 else [number]:
            file = self._open_files.pop(key, None)
            if file is not None:
                file.close()
        return {}

    def _send_error(self, request: RequestFrame, failure: CmdletFailure) -> None:
        content: dict[str, object] = {
            "message": failure.message,
            "hresult": failure.hresult,
            "exception": failure.exception,
            "category": failure.category,
            "errorid": ",".join(filter(None, (failure.error_id, request.cmdlet))),
        }
        self._send_answer(AnswerFrame(request.number, "error", content))

    def _execute(self, request: RequestFrame) -> list[dict[str, object]]:
        if request.operation != "invoke":
            operation = self._operations.get(request.operation)
            if operation is None:
                raise CmdletFailure(f"There is no operation {request.operation}.")
            return [operation(request.parameters)]
        facts = cmdlets().get(request.cmdlet)
        if facts is None:
            raise CmdletFailure(
                f"The cmdlet {request.cmdlet} is not on the list of those that may be asked for.",
                category="PermissionDenied",
                error_id="NotAllowed",
            )

        def report(record: StreamRecord) -> None:
            content: dict[str, object] = {"message": record.text}
            if record.kind == "progress":
                content = {"activity": facts.name, "status": record.text, "percent": record.percent}
            self._send_answer(AnswerFrame(request.number, record.kind, content))

        results = self._emulated_host.call(facts.name, bind(facts, request.parameters), report)
        return [
            {
                name: list(result.properties) if name == "*" else result.properties.get(name)
                for name in request.properties
            }
            for result in results
        ]


def _path(parameters: dict[str, object], name: str = "path") -> Path:
    return Path(str(parameters[name]))


def _make_private_directory(parameters: dict[str, object]) -> dict[str, object]:
    _path(parameters).mkdir(mode=0o700)
    return {}


def _make_directory(parameters: dict[str, object]) -> dict[str, object]:
    _path(parameters).mkdir()
    return {}


def _remove_directory(parameters: dict[str, object]) -> dict[str, object]:
    path = _path(parameters)
    if path.exists():
        path.rmdir()
    return {}


def _stat(parameters: dict[str, object]) -> dict[str, object]:
    path = _path(parameters)
    found = path.stat() if path.exists() else None
    return {
        "exists": found is not None,
        "directory": path.is_dir(),
        "size": found.st_size if found is not None and path.is_file() else 0,
        "written": time_of(found.st_mtime_ns) if found is not None else None,
        "attributes": 0,
    }


def _copy(parameters: dict[str, object]) -> dict[str, object]:
    source, target = _path(parameters, "source"), _path(parameters, "target")
    with source.open("rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
    return {}


def _sha256(parameters: dict[str, object]) -> dict[str, object]:
    with _path(parameters).open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _rename(parameters: dict[str, object]) -> dict[str, object]:
    source, target = _path(parameters, "source"), _path(parameters, "target")
    if target.exists():
        raise FileExistsError(17, "File exists", str(target))
    source.rename(target)
    return {}


def _delete(parameters: dict[str, object]) -> dict[str, object]:
    _path(parameters).unlink(missing_ok=True)
    return {}


def _write(parameters: dict[str, object]) -> dict[str, object]:
    offset, data = parameters["offset"], parameters["data"]
    assert isinstance(data, bytes)
    with _path(parameters).open("r+b" if offset else "xb") as file:
        file.seek(offset if isinstance(offset, int) else 0)
        file.write(data)
    return {}


def _list_folders(parameters: dict[str, object]) -> dict[str, object]:
    paths = parameters["paths"]
    assert isinstance(paths, list)
    return {"lists": [_list_folder(str(path)) for path in paths]}


def _list_folder(path: str) -> dict[str, object]:
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


def _volume_facts(parameters: dict[str, object]) -> dict[str, object]:
    path = _path(parameters).absolute()
    usage = shutil.disk_usage(next(item for item in (path, *path.parents) if item.exists()))
    found: dict[str, object] = {"path": str(path), "kind": "Fixed", "system": ""}
    return found | {"free": usage.free, "size": usage.total}


def _host_facts() -> dict[str, object]:
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
