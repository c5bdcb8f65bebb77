r"""Other names for directories on the emulated host, Windows names among them.

IMAGETOOL_LAB_NAMES="D:\images=/srv/images" says that the directory /srv/images of this machine is
called D:\images there; several are separated by semicolons. path_filter.py translates the paths in
the frames between the client and the script.

With Windows names the host says that it runs Windows, and follows the rules of its paths: both
separators, no difference of case, dots, drives, paths relative to a drive or a directory.
C:\Windows\Temp is its temporary directory, C:\Users\lab the current one unless that has a name, and
nothing else of this machine is there.
"""

from __future__ import annotations

import ntpath
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property

from imagetool.errors import WrongUsage
from imagetool.host.configuration.path_mapping import check_host_directory, is_windows_path
from imagetool.host.frames import is_path_parameter

NAMES_VARIABLE = "IMAGETOOL_LAB_NAMES"

TEMPORARY_NAME = r"C:\Windows\Temp"
"""The Windows name of the temporary directory, unless another directory has it."""
CURRENT_NAME = r"C:\Users\lab"
"""The Windows name of the current directory, where it has no other."""

_NOWHERE = "/proc/no-such-drive"
"""The directory of what has no name: it is not there, and Linux lets nobody make it."""
_UNC_FOLDER = "UNC"
_DEVICE_PREFIX = re.compile(r"\\\\[?.]\\(?:(UNC)\\|(?=[A-Za-z]:\\))", re.IGNORECASE)
_INVALID_CHARACTERS = re.compile(r'[<>:"|?*\x01-\x1f]')
_ENTRY = re.compile(r"([df][^\0]*\0)(.*)", re.DOTALL)
_FROM_ROOT = r"(?=/[^\s/])"
_BEFORE_PATH = r"(?<![^\s'\"(\[<=,:;])"
_TEXTS = ("message", "activity", "status")
"""The fields of answers in which paths stand among other words."""
_VOLUME_FACTS = {"path", "kind", "system", "free", "size"}
_DIRECTORY_NOT_FOUND = 0x80070003


class PathNames:
    """Translates paths between this machine and the host.

    `temporary` and `current` are directories of the process that works there; `current_name` is
    what the current one is called where it has no name among `pairs`.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[str, str]],
        temporary: str = "",
        current: str = "",
        current_name: str = CURRENT_NAME,
    ) -> None:
        self.windows = any(is_windows_path(name) for name, _ in pairs)
        self._pairs = [(_plain_name(name), _plain(directory)) for name, directory in pairs]
        self._current = current_name
        if not self.windows:
            return
        if temporary and TEMPORARY_NAME.upper() not in [name.upper() for name, _ in self._pairs]:
            self._pairs.append((TEMPORARY_NAME, _plain(temporary)))
        if current:
            there = self.to_name(current)
            if is_windows_path(there):
                self._current = there
            elif _plain(current):
                self._pairs.append((CURRENT_NAME, _plain(current)))
            vars(self).pop("_by_directory", None)

    # From names to directories

    def to_directory(self, path: str) -> str:
        """Return the path on this machine of a path on the host.

        A Windows path whose drive or share has no name becomes one in a directory that does not
        exist.
        """
        if not path or "\0" in path:
            return path
        return self._from_windows(path) if self.windows else self._from_posix(path)

    def _from_posix(self, path: str) -> str:
        if not path.startswith("/"):
            return path
        normal = path if {".", ".."}.isdisjoint(path.split("/")) else posixpath.normpath(path)
        for name, directory in sorted(self._pairs, key=lambda pair: -len(pair[0])):
            if normal == name or normal.startswith(f"{name}/"):
                return directory + normal[len(name) :]
        return path

    def _from_windows(self, path: str) -> str:
        parts = _parts(self._whole(path))
        folded = _folded(parts)
        best: tuple[int, str] | None = None
        for name, directory in self._pairs:
            wanted = _folded(_parts(name))
            if folded[: len(wanted)] == wanted and (best is None or len(wanted) > best[0]):
                best = len(wanted), directory
        rest = parts[best[0] :] if best is not None else parts[1:]
        end = "/" if path[-1] in "\\/" else ""
        if best is not None and not any(_INVALID_CHARACTERS.search(part) for part in rest):
            return "/".join([best[1], *rest]) + end
        drive = parts[0].rstrip(":") if parts[0].endswith(":") else _UNC_FOLDER + parts[0]
        return "/".join([_NOWHERE, *re.split(r"\\+", drive), *parts[1:]]) + end

    def _whole(self, path: str) -> str:
        """Return the whole path of a Windows path, as GetFullPath does."""
        text = path.replace("/", "\\")
        text = _DEVICE_PREFIX.sub(lambda match: "\\\\" if match[1] else "", text, count=1)
        drive, rest = ntpath.splitdrive(text)
        if drive and not drive.endswith(":"):
            return text
        at, _ = ntpath.splitdrive(self._current)
        if drive and drive.upper() != at.upper():
            return f"{drive}\\{rest}"
        return f"{at}{rest}" if rest.startswith("\\") else f"{self._current}\\{rest}"

    # From directories to names

    @cached_property
    def _by_directory(self) -> list[tuple[str, str]]:
        """Directories and their names, the longest directory first; of two names the first."""
        resolved = ((name, _plain(os.path.realpath(directory))) for name, directory in self._pairs)
        both = dict.fromkeys((directory, name) for name, directory in (*self._pairs, *resolved))
        return sorted(both, key=lambda pair: -len(pair[0]))

    def to_name(self, path: str) -> str:
        """Return the path on the host of a path on this machine; others as they are."""
        if self.windows and path.startswith(f"{_NOWHERE}/"):
            drive, *rest = path[len(_NOWHERE) + 1 :].split("/")
            start = "\\" if drive == _UNC_FOLDER else f"{drive}:"
            return "\\".join([start, *(rest or [""])])
        for directory, name in self._by_directory:
            if path == directory or path.startswith(f"{directory}/"):
                below = path[len(directory) :]
                if not self.windows or not below:
                    return name + below
                return name.rstrip("\\") + below.replace("/", "\\")
        return path

    @cached_property
    def _mentions(self) -> re.Pattern[str]:
        known = "|".join(re.escape(directory) or _FROM_ROOT for directory, _ in self._by_directory)
        start = rf"(?:{known}|{re.escape(_NOWHERE)})(?![\w-])"
        quoted = rf"(?<='){start}.*?(?='(?:\W|$))"
        plain = rf"{start}(?:[^\s'\"]*[^\s'\".,;:!?)\]>])?"
        return re.compile(rf"{_BEFORE_PATH}(?:{quoted}|{plain})")

    def text_to_names(self, text: str) -> str:
        """Return a message with the names of the paths in it; a path with blanks is in quotes."""
        return self._mentions.sub(lambda match: self.to_name(match[0]), text)

    # Frames

    def request(
        self, frame: Mapping[str, object], to_directory: Callable[[str], str] | None = None
    ) -> dict[str, object]:
        """Translate the paths of a request, by another function in place of `to_directory`."""
        parameters = frame.get("parameters")
        if not isinstance(parameters, dict):
            return dict(frame)
        translate = to_directory or self.to_directory
        changed = {
            name: _walk(value, translate) if is_path_parameter(str(name)) else value
            for name, value in parameters.items()
        }
        return {**frame, "parameters": changed}

    def answer(self, frame: Mapping[str, object]) -> dict[str, object]:
        """Translate the paths of an answer: whole values of results, and within messages."""
        found = {
            key: self.text_to_names(value) if key in _TEXTS and isinstance(value, str) else value
            for key, value in frame.items()
        }
        if frame.get("kind") == "hello":
            found["windows"] = self.windows
        if f"'{_NOWHERE}'" in str(frame.get("message")):  # which .NET could not make
            found["message"] = "Could not find a part of the path."
            found["hresult"] = _DIRECTORY_NOT_FOUND
            found["exception"] = "System.IO.DirectoryNotFoundException"
        facts = frame.get("properties")
        if isinstance(facts, dict):
            found["properties"] = {key: self._value(value, key) for key, value in facts.items()}
            if self.windows and set(facts) == _VOLUME_FACTS:
                return self._volume(found)
        return found

    def _value(self, value: object, key: str) -> object:
        if isinstance(value, Mapping):
            return {name: self._value(item, name) for name, item in value.items()}
        if key == "entries":
            return _walk(value, self._entry)
        if isinstance(value, list):
            return [self._value(item, key) for item in value]
        return _walk(value, self.text_to_names if key == "error" else self.to_name)

    def _entry(self, text: str) -> str:
        """Translate an entry of a directory's list: the target of a link is behind a NUL."""
        match = _ENTRY.fullmatch(text)
        if match is None:
            return text
        target = self.to_name(match[2])
        if self.windows and not target.startswith("/"):
            target = target.replace("/", "\\")
        return match[1] + target

    def _volume(self, answer: dict[str, object]) -> dict[str, object]:
        """Return the facts of a volume as Windows gives them for a share and for no drive."""
        facts = answer["properties"]
        assert isinstance(facts, dict)
        path = str(facts["path"])
        if path.startswith("\\\\"):
            network = {"kind": "Network", "system": "", "free": 0, "size": 0}
            return {**answer, "properties": {**facts, **network}}
        if path[:2].upper() in [name[:2].upper() for name, _ in self._pairs]:
            return answer
        return {
            "number": answer.get("number"),
            "kind": "error",
            "message": f"Could not find the drive '{path[:3]}'. The drive might not be ready or "
            "might not be mapped.",
            "hresult": _DIRECTORY_NOT_FOUND,
            "exception": "System.IO.DriveNotFoundException",
            "category": "NotSpecified: (:) [], DriveNotFoundException",
            "errorid": "System.IO.DriveNotFoundException",
        }


def _plain(directory: str) -> str:
    """Return a directory without dots, and without a slash at its end; empty for the root."""
    return re.sub("^/+", "/", posixpath.normpath(directory)).rstrip("/")


def _plain_name(name: str) -> str:
    """Return a name without a separator at its end, unless it is a whole drive."""
    if not is_windows_path(name):
        return _plain(name)
    normal = ntpath.normpath(name)
    return normal if re.fullmatch(r".:\\", normal) else normal.rstrip("\\")


def _parts(path: str) -> list[str]:
    """Return the drive or share of a whole Windows path, and its components behind it."""
    drive, below = ntpath.splitdrive(ntpath.normpath(path))
    names = (part.rstrip(" .") for part in below.split("\\"))  # as Windows drops them
    return [drive, *filter(None, names)]


def _folded(parts: Iterable[str]) -> list[str]:
    return [part.upper() for part in parts]


def _walk(value: object, translate: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return translate(value)
    if isinstance(value, list | tuple):
        return [_walk(item, translate) for item in value]
    return value


def parse_names(text: str, current: str = "") -> PathNames | None:
    """Parse a text as IMAGETOOL_LAB_NAMES has it; None where it is empty. Raises WrongUsage.

    `current` is the current directory of the process that works there.
    """
    pairs: dict[str, tuple[str, str]] = {}
    for part in filter(None, (item.strip() for item in text.split(";"))):
        name, _, directory = part.partition("=")
        if not os.path.isabs(directory) or not os.path.isdir(directory) or not _plain(directory):  # noqa: PTH112, PTH117  # texts
            raise _no_pair(part, "DIRECTORY is one of this machine by its whole path, not its root")
        try:
            check_host_directory(name)
        except ValueError as error:
            raise _no_pair(part, f"{name or 'an empty NAME'} {error}") from None
        plain = _plain_name(name)
        if not plain or re.fullmatch(r"\\\\[^\\]*", plain):
            raise _no_pair(part, "NAME is a directory on the host: no root, no server alone")
        key = plain.upper() if is_windows_path(name) else plain
        if key in pairs:
            raise _no_pair(part, f"{name} is the name of another directory")
        pairs[key] = name, directory
    if len({is_windows_path(name) for name, _ in pairs.values()}) > 1:
        raise WrongUsage(
            f"{NAMES_VARIABLE}: some names are of Windows and some are not",
            hint="A host has paths of one kind.",
        )
    # .NET's temporary directory, which is not always Python's.
    temporary = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108  # nothing is made there
    return PathNames(list(pairs.values()), temporary, current) if pairs else None


def _no_pair(part: str, hint: str) -> WrongUsage:
    return WrongUsage(f"{NAMES_VARIABLE}: {part!r} is no NAME=DIRECTORY", hint=f"{hint}.")


def directory_here(path: str, environment: Mapping[str, str]) -> str:
    """Return the path here of a directory on the host that has these variables."""
    names = parse_names(environment.get(NAMES_VARIABLE, ""))
    return path if names is None else names.to_directory(path)


def in_letters_of_files(path: str) -> str:
    """Return a path of this machine in the letters of the files there, whose case may differ."""
    if path.startswith(f"{_NOWHERE}/"):
        return path
    found = ""
    for part in path.split("/")[1:]:
        found = f"{found}/{_in_folder(found, part)}"
    return found or path


def _in_folder(folder: str, name: str) -> str:
    if not name or os.path.lexists(f"{folder}/{name}"):
        return name
    names: Sequence[str] = ()
    with suppress(OSError):
        names = sorted(os.listdir(folder or "/"))  # noqa: PTH208  # texts
    return next((item for item in names if item.upper() == name.upper()), name)
