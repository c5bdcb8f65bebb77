"""How directories here correspond to directories on a host."""

from __future__ import annotations

import ntpath
import os
import posixpath
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from imagetool.errors import WrongUsage

if TYPE_CHECKING:
    from imagetool.host.configuration.address import Host

_ON_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|[\\/]{2}[^\\/?.]")
_UNUSABLE = re.compile(r'[<>:"|?*\x00-\x1f]')
_MARKS = re.compile(r"[\\/]+")


def is_windows_path(text: str) -> bool:
    r"""Whether a path is a whole one of Windows: with a drive, or \\server\share."""
    return _ON_WINDOWS.match(text) is not None


def on_a_share(text: str) -> bool:
    """Whether Windows would look for a path on another machine."""
    return re.match(r"[\\/]{2}", text) is not None


def directory_on_host(text: str) -> str:
    """A directory on a host, as a configuration may name it: whole, plain, without `..`.

    Raises ValueError with the reason.
    """
    windows = is_windows_path(text)
    if not windows and (not text.startswith("/") or on_a_share(text)):
        raise ValueError("is no whole path on a host, like D:\\images")
    parts = _MARKS.split(text[2:] if text[1:2] == ":" else text)
    if ".." in parts or "." in parts:
        raise ValueError("goes up or stays with dots")
    if any(_UNUSABLE.search(part) or part != part.rstrip(" .") for part in parts):
        raise ValueError("has characters that no directory of a host has")
    return text


def path_on_host(
    host: Host, path: str | os.PathLike[str], *, windows: bool = os.name == "nt"
) -> str:
    """The host's path of a file here: the longest directory that the configuration names decides.

    `windows`: whether `path` is one of Windows, where case does not count. For the hosts `local`
    and `lab` a path here is the path there. Raises WrongUsage where nothing corresponds.
    """
    text = os.fspath(path)
    if not host.remote:
        return text
    flavour = ntpath if windows else posixpath
    whole = text if flavour.isabs(text) else os.path.abspath(text)  # noqa: PTH100  # text stays text
    found = _longest(_parts(whole, windows), host.paths, windows)
    if found is None:
        raise WrongUsage(
            f"{text}: nothing says where it is on {host.name}",
            hint=f"Say how directories correspond ([hosts.{host.name}.paths], in imagetool.toml "
            f"here or in your own configuration), or write {host.name}:PATH.",
        )
    there, rest = found
    mark = "\\" if is_windows_path(there) else "/"
    for part in rest:
        if _UNUSABLE.search(part) or mark in part or part != part.rstrip(" ."):
            # Such a name cannot be on Windows, or would mean another one there: `.. ` is `..`.
            raise WrongUsage(
                f"{text}: {part!r} cannot be the name of a file on {host.name}",
                hint="Give it another name.",
            )
    return mark.join([there.rstrip("\\/"), *rest]) if rest else there


def _parts(path: str, windows: bool) -> list[str]:
    """The names in a whole path, without `.` and `..`."""
    if windows:
        drive, rest = ntpath.splitdrive(ntpath.normpath(path))
        return [drive.replace("/", "\\"), *filter(None, _MARKS.split(rest))]
    return ["", *filter(None, posixpath.normpath(path).split("/"))]


def _longest(
    parts: list[str], pairs: Iterable[tuple[str, str]], windows: bool
) -> tuple[str, list[str]] | None:
    best: tuple[int, str] | None = None
    for here, there in pairs:
        if is_windows_path(here) != windows:
            continue
        prefix = _parts(here, windows)
        same = parts[: len(prefix)] == prefix or (
            windows and list(map(_folded, parts[: len(prefix)])) == list(map(_folded, prefix))
        )
        if same and (best is None or len(prefix) > best[0]):
            best = len(prefix), there
    return None if best is None else (best[1], parts[best[0] :])


def _folded(text: str) -> str:
    return text.upper()
