"""Checks of names from images and packages before files of this machine get them."""

from __future__ import annotations

import re
from pathlib import Path

from imagetool.disk.links import is_link
from imagetool.errors import CannotWrite

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?", re.I)
_FORBIDDEN = re.compile(r'[\x00-\x1f<>:"|?*\\/]')
_MAX_NAME_LENGTH = 240
_IMAGE_HINT = "Read it with `file read`, or leave it out."
_PACKAGE_HINT = "Nothing was written: unpack it with a program that gives such files another name."


def safe_name(name: str, hint: str = _IMAGE_HINT) -> str:
    """Return `name` if it is a safe path component on every system. Raises CannotWrite."""
    if (
        not name
        or name.strip(". ") != name.rstrip(". ").strip()
        or name != name.rstrip(". ")
        or name in (".", "..")
        or _FORBIDDEN.search(name)
        or _RESERVED.fullmatch(name)
        or len(name.encode("utf-8", "replace")) > _MAX_NAME_LENGTH
    ):
        raise CannotWrite(
            f"{name!r} is no name that can be written safely on every system",
            hint=hint,
        )
    return name


def safe_path(folder: Path, name: str) -> Path:
    """Return the path below `folder` for a member of a package, with / or \\.

    Raises CannotWrite for a name that is not safe.

    It is never outside of `folder`, and never leads through a link.
    """
    path = folder
    parts = name.replace("\\", "/").split("/")
    for part in parts[:-1]:
        path = path / safe_name(part, _PACKAGE_HINT)
        if is_link(path) or (path.exists() and not path.is_dir()):
            raise CannotWrite(f"{path}: in the way of {name!r}", hint="Use an empty directory.")
    return path / safe_name(parts[-1], _PACKAGE_HINT)
