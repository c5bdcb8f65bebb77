"""The file operations of the session without PowerShell, as those of session.ps1."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from imagetool.disk.local_files import LOCAL_FILES, time_of
from imagetool.errors import ImagetoolError, NoFile
from imagetool.lab.cmdlet import CmdletFailure
from imagetool.lab.locks import is_locked

_COPY_BYTES = 1 << 20
_SHARING_VIOLATION = 0x80070020
_ALREADY_EXISTS, _NOT_FOUND = 0x80070050, 0x80070002

Parameters = Mapping[str, object]
Answer = dict[str, object]


class OpenFiles:
    """The files that the session has open for reading, by the client's numbers."""

    def __init__(self) -> None:
        self._open: dict[object, BinaryIO] = {}

    def open(self, parameters: Parameters) -> Answer:
        """Open a file, and read ranges of it."""
        path = path_of(parameters)
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


def explain(error: OSError) -> CmdletFailure:
    """Return the failure that stands for an error of the system."""
    message = f"{error.strerror}: '{error.filename}'" if error.filename else str(error)
    codes = {errno.EEXIST: _ALREADY_EXISTS, errno.ENOENT: _NOT_FOUND}
    code = codes.get(error.errno or 0, 0x80070000 | ((error.errno or 0) & 0xFFFF))
    return CmdletFailure(message, hresult=code, category="WriteError")


def path_of(parameters: Parameters, name: str = "path") -> Path:
    """Return a parameter that is a path."""
    return Path(str(parameters[name]))


def _make_directory(parameters: Parameters) -> Answer:
    path_of(parameters).mkdir()
    return {}


def _remove_directory(parameters: Parameters) -> Answer:
    path = path_of(parameters)
    if path.is_symlink():
        if not parameters["own"]:
            raise OSError(errno.ENOTDIR, "It is a mount point or link", str(path))
        path.unlink()
    elif path.exists():
        path.rmdir()
    return {}


def _remove_tree(parameters: Parameters) -> Answer:
    path = path_of(parameters)
    if not re.fullmatch("it-[0-9a-f]{8}", path.parent.name):
        raise CmdletFailure(f"'{path}' is not in a directory of imagetool's.")
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
    return {}


def _stat(parameters: Parameters) -> Answer:
    path = path_of(parameters)
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
    source, target = path_of(parameters, "source"), path_of(parameters, "target")
    _refuse_locked(source)
    with source.open("rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, _COPY_BYTES)
    return {}


def _sha256(parameters: Parameters) -> Answer:
    _refuse_locked(path_of(parameters))
    with path_of(parameters).open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _rename(parameters: Parameters) -> Answer:
    source, target = path_of(parameters, "source"), path_of(parameters, "target")
    if target.exists():
        raise FileExistsError(errno.EEXIST, "File exists", str(target))
    source.rename(target)
    return {}


def _delete(parameters: Parameters) -> Answer:
    path_of(parameters).unlink(missing_ok=True)
    return {}


def _write(parameters: Parameters) -> Answer:
    offset, data = parameters["offset"], parameters["data"]
    assert isinstance(data, bytes)
    with path_of(parameters).open("r+b" if offset else "xb") as file:
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
    path = path_of(parameters).absolute()
    usage = shutil.disk_usage(next(item for item in (path, *path.parents) if item.exists()))
    found: Answer = {"path": str(path), "kind": "Fixed", "system": ""}
    return found | {"free": usage.free, "size": usage.total}


def _in_use(parameters: Parameters) -> Answer:
    return {"inuse": is_locked(path_of(parameters))}


def _access(parameters: Parameters) -> Answer:
    return {"access": f"mode {path_of(parameters).stat().st_mode & 0o777:o}"}


OPERATIONS: Mapping[str, Callable[[Parameters], Answer]] = {
    "make-directory": _make_directory,
    "remove-directory": _remove_directory,
    "remove-tree": _remove_tree,
    "stat": _stat,
    "copy": _copy,
    "sha256": _sha256,
    "rename": _rename,
    "delete": _delete,
    "write": _write,
    "list": _list_folders,
    "volume": _volume_facts,
    "in-use": _in_use,
    "access": _access,
}
"""By their names in session.ps1."""
