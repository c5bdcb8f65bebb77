"""Mapping of local paths to paths on a host, by pairs of corresponding directories."""

from __future__ import annotations

import ntpath
import os
import posixpath
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from imagetool.errors import WrongUsage

if TYPE_CHECKING:
    from imagetool.host.configuration.address import ConfiguredHost

_WINDOWS_ABSOLUTE = re.compile(r"[A-Za-z]:[\\/]|[\\/]{2}[^\\/?.]")
_INVALID_CHARACTERS = re.compile(r'[<>:"|?*\x00-\x1f]')
_SEPARATORS = re.compile(r"[\\/]+")


def is_windows_path(text: str) -> bool:
    r"""True if a path is an absolute one of Windows: D:\… or \\server\share."""
    return _WINDOWS_ABSOLUTE.match(text) is not None


def is_unc_path(text: str) -> bool:
    """True if a path begins with two separators: Windows may resolve it on another machine."""
    return re.match(r"[\\/]{2}", text) is not None


def check_host_directory(text: str) -> str:
    """Return a directory on a host as given, if it is absolute, without `..` and valid there.

    Raises ValueError with the reason.
    """
    windows = is_windows_path(text)
    if not windows and (not text.startswith("/") or is_unc_path(text)):
        raise ValueError("is no whole path on a host, like D:\\images")
    parts = _SEPARATORS.split(text[2:] if text[1:2] == ":" else text)
    if ".." in parts or "." in parts:
        raise ValueError("goes up or stays with dots")
    if any(_INVALID_CHARACTERS.search(part) or part != part.rstrip(" .") for part in parts):
        raise ValueError("has characters that no directory of a host has")
    return text


def path_on_host(
    host: ConfiguredHost, path: str | os.PathLike[str], *, windows: bool = os.name == "nt"
) -> str:
    """Return the path on the host of a local file, by the longest mapped directory above it.

    `windows`: True if `path` is a Windows path, compared without case. For the hosts `local` and
    `lab` the path is returned unchanged. Raises WrongUsage where no directory above it is mapped.
    """
    text = os.fspath(path)
    if not host.remote:
        return text
    path_module = ntpath if windows else posixpath
    absolute = text if path_module.isabs(text) else os.path.abspath(text)  # noqa: PTH100  # text stays text
    found = _longest_match(_parts(absolute, windows), host.paths, windows)
    if found is None:
        raise WrongUsage(
            f"{text}: nothing says where it is on {host.name}",
            hint=f"Say how directories correspond ([hosts.{host.name}.paths], in imagetool.toml "
            f"here or in your own configuration), or write {host.name}:PATH.",
        )
    host_directory, rest = found
    separator = "\\" if is_windows_path(host_directory) else "/"
    for part in rest:
        if _INVALID_CHARACTERS.search(part) or separator in part or part != part.rstrip(" ."):
            # Windows has no such names, or reads them as others: `.. ` is `..`.
            raise WrongUsage(
                f"{text}: {part!r} cannot be the name of a file on {host.name}",
                hint="Give it another name.",
            )
    return separator.join([host_directory.rstrip("\\/"), *rest]) if rest else host_directory


def _parts(path: str, windows: bool) -> list[str]:
    """Return the components of an absolute path, without `.` and `..`."""
    if windows:
        drive, rest = ntpath.splitdrive(ntpath.normpath(path))
        return [drive.replace("/", "\\"), *filter(None, _SEPARATORS.split(rest))]
    return ["", *filter(None, posixpath.normpath(path).split("/"))]


def _longest_match(
    parts: list[str], path_map: Iterable[tuple[str, str]], windows: bool
) -> tuple[str, list[str]] | None:
    best: tuple[int, str] | None = None
    for local_directory, host_directory in path_map:
        if is_windows_path(local_directory) != windows:
            continue
        prefix = _parts(local_directory, windows)
        same = parts[: len(prefix)] == prefix or (
            windows and list(map(_folded, parts[: len(prefix)])) == list(map(_folded, prefix))
        )
        if same and (best is None or len(prefix) > best[0]):
            best = len(prefix), host_directory
    return None if best is None else (best[1], parts[best[0] :])


def _folded(text: str) -> str:
    return text.upper()
