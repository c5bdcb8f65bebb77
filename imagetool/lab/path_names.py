r"""Other names for directories on the emulated host, Windows names among them.

IMAGETOOL_LAB_NAMES="D:\images=/srv/images" says that the directory /srv/images of this machine is
called D:\images there; several are separated by semicolons. A filter between the client and the
script translates the paths in the frames of both sides (host/frames.py), so that a job runs with
paths that differ, as with a real host. With Windows names the host says that it runs Windows,
C:\Windows\Temp is its temporary directory, and nothing else of this machine has a name there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from imagetool.errors import HostFailed, WrongUsage
from imagetool.host.configuration.path_mapping import is_windows_path
from imagetool.host.environment import child_environment
from imagetool.host.frames import decode_frame, encode_frame, is_path_parameter

NAMES_VARIABLE = "IMAGETOOL_LAB_NAMES"

_TEMPORARY = "C:\\Windows\\Temp"
_NOWHERE = "/dev/null/no-such-directory"
"""What a path leads to that has no name here: nothing is below a file."""
_TEXTS = ("message", "status")
"""The fields of answers in which paths stand among other words."""


class _NamedDirectory(NamedTuple):
    name: str
    directory: str


class PathNames:
    """Translates paths between this machine and the host."""

    def __init__(self, pairs: Sequence[tuple[str, str]], temporary: str) -> None:
        self.windows = any(is_windows_path(name) for name, _ in pairs)
        named = [_NamedDirectory(name.rstrip("\\/"), _plain(path)) for name, path in pairs]
        if self.windows:
            named.append(_NamedDirectory(_TEMPORARY, _plain(temporary)))
        self._by_name = sorted(named, key=lambda item: -len(item.name))
        self._by_directory = sorted(named, key=lambda item: -len(item.directory))
        directories = "|".join(re.escape(item.directory) for item in self._by_directory)
        self._in_text = re.compile(rf"(?:{directories})(?:/[^'\"\n]*|(?=['\"\s,;:.)]|$))")

    def to_directory(self, path: str) -> str:
        """Return the path on this machine of a path on the host."""
        text = path.replace("/", "\\") if self.windows else path
        for name, directory in self._by_name:
            rest = text[len(name) :]
            if self._folded(text[: len(name)]) == self._folded(name) and rest[:1] in ("", *"\\/"):
                return directory + (rest.replace("\\", "/") if self.windows else rest)
        if not self.windows:
            return path
        return _NOWHERE if is_windows_path(path) or path[:1] in "\\/" else text.replace("\\", "/")

    def _folded(self, text: str) -> str:
        return text.casefold() if self.windows else text

    def to_name(self, path: str) -> str:
        """Return the path on the host of a path on this machine; others as they are."""
        for name, directory in self._by_directory:
            if path == directory or path.startswith(f"{directory}/"):
                rest = path[len(directory) :]
                return name + (rest.replace("/", "\\") if self.windows else rest)
        return path

    def request(self, frame: dict[str, object]) -> dict[str, object]:
        """Translate the paths of a request."""
        parameters = frame.get("parameters")
        if not isinstance(parameters, dict):
            return frame
        changed = {
            key: _walk(value, self.to_directory) if is_path_parameter(str(key)) else value
            for key, value in parameters.items()
        }
        return {**frame, "parameters": changed}

    def answer(self, frame: dict[str, object]) -> dict[str, object]:
        """Translate the paths of an answer."""
        translated = {
            key: self._in_text.sub(lambda match: self.to_name(match[0]), value)
            if key in _TEXTS and isinstance(value, str)
            else _walk(value, self._value)
            for key, value in frame.items()
        }
        if frame.get("kind") == "hello":
            translated["windows"] = self.windows
        return translated

    def _value(self, text: str) -> str:
        # The entry of a directory has the target of a link behind a NUL.
        return "\0".join(self.to_name(part) for part in text.split("\0"))


def _plain(directory: str) -> str:
    return os.path.realpath(directory).rstrip("/")


def _walk(value: object, translate: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return translate(value)
    if isinstance(value, list | tuple):
        return [_walk(item, translate) for item in value]
    if isinstance(value, Mapping):
        return {key: _walk(item, translate) for key, item in value.items()}
    return value


def parse_names(text: str) -> PathNames | None:
    """Parse a text as IMAGETOOL_LAB_NAMES has it; None where it is empty. Raises WrongUsage."""
    pairs = []
    for part in filter(None, (item.strip() for item in text.split(";"))):
        name, _, directory = part.partition("=")
        whole = is_windows_path(name) or name.startswith("/")
        if not whole or not os.path.isabs(directory) or not os.path.isdir(directory):  # noqa: PTH112, PTH117  # texts
            raise WrongUsage(
                f"{NAMES_VARIABLE}: {part!r} is no NAME=DIRECTORY",
                hint="NAME is a whole path on the host, DIRECTORY one of this machine.",
            )
        pairs.append((name, directory))
    if len({is_windows_path(name) for name, _ in pairs}) > 1:
        raise WrongUsage(
            f"{NAMES_VARIABLE}: some names are of Windows and some are not",
            hint="A host has paths of one kind.",
        )
    return PathNames(pairs, tempfile.gettempdir()) if pairs else None


def engine_command(engine: str, environment: Mapping[str, str]) -> list[str]:
    """Return the command that runs an engine, behind the filter where names are given.

    Raises WrongUsage.
    """
    if parse_names(environment.get(NAMES_VARIABLE, "")) is None:
        return [engine]
    root = Path(__file__).resolve().parents[2]
    program = f"import sys; sys.path.insert(0, {str(root)!r}); import {__name__} as m; m.main()"
    return [sys.executable, "-c", program, engine]


def main() -> None:
    """Run the program that the arguments name, and translate what it reads and writes."""
    names = parse_names(os.environ.get(NAMES_VARIABLE, ""))
    assert names is not None  # engine_command has looked
    process = subprocess.Popen(
        sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=child_environment()
    )
    assert process.stdin and process.stdout
    writer = threading.Thread(
        target=_copy, args=(sys.stdin.buffer, process.stdin, names.request), daemon=True
    )
    writer.start()
    _copy(process.stdout, sys.stdout.buffer, names.answer)
    os._exit(max(process.wait(), 0))  # not before the writer ends, whose input may never end


def _copy(
    source: IO[bytes],
    target: IO[bytes],
    translate: Callable[[dict[str, object]], dict[str, object]],
) -> None:
    """Copy lines, frames translated, to the end of the source; then close the target."""
    with suppress(OSError, ValueError):
        while line := source.readline():
            with suppress(HostFailed):  # no frame: the script itself, or a payload
                if not line.startswith(b":") and line.strip():
                    line = encode_frame(translate(decode_frame(line)))  # the line to write
            target.write(line)
            target.flush()
    with suppress(OSError):
        target.close()
