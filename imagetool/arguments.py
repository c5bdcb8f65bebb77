"""Checks of the arguments of the public API: wrong types end in WrongUsage, not in a traceback."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING

from imagetool.errors import WrongUsage

if TYPE_CHECKING:
    from imagetool.location import Location
    from imagetool.package.identity import Version

    ImagePath = str | PathLike[str] | Location

StrPath = str | PathLike[str]
"""A path as text, or a pathlib.Path."""


def check_path(name: str, value: object) -> str:
    """Return a path as text. Raises WrongUsage for anything else than a path."""
    if not isinstance(value, str | PathLike):
        raise _wrong(name, value, "a path", "Give a str or a pathlib.Path.")
    text = fspath(value)
    if not isinstance(text, str):
        raise _wrong(name, value, "a path", "Give a str or a pathlib.Path, not bytes.")
    if not text:
        raise WrongUsage(f"{name} is empty", hint="Name a file.")
    if "\0" in text:
        raise WrongUsage(f"{name} is {text!r}: no path has a NUL", hint="Name a file.")
    return text


def check_paths(name: str, values: object) -> list[str]:
    """Return a list of paths as texts. Raises WrongUsage, for one path alone as well."""
    if isinstance(values, str | bytes | PathLike) or not isinstance(values, Sequence):
        raise _wrong(name, values, "a list of paths", f"Write {name}=[path], even for one.")
    return [check_path(f"{name}[{index}]", value) for index, value in enumerate(values)]


def check_one_or_several(name: str, values: object) -> list[str]:
    """Return a path, or a list of paths, as a list of texts. Raises WrongUsage."""
    if isinstance(values, str | PathLike):
        return [check_path(name, values)]
    return check_paths(name, values)


def check_text(name: str, value: object) -> str:
    """Return a text. Raises WrongUsage for anything else."""
    if not isinstance(value, str):
        raise _wrong(name, value, "a text", "Give a str.")
    return value


def check_flag(name: str, value: object) -> bool:
    """Return a truth value. Raises WrongUsage for anything else: the text "no" would count."""
    if not isinstance(value, bool):
        raise _wrong(name, value, "True or False", f"Write {name}=True, or leave it out.")
    return value


def check_choice(name: str, value: object, choices: Sequence[str]) -> str | None:
    """Return one of the choices, or None. Raises WrongUsage."""
    if value is not None and value not in choices:
        raise WrongUsage(
            f"{name} is {value!r}, neither {' nor '.join(choices)}",
            hint=f"Write {name}={choices[0]!r}, or leave it out.",
        )
    return None if value is None else str(value)


def check_version(name: str, value: object) -> Version | None:
    """Return a version, or None. Raises WrongUsage for a text that is none, and for a number."""
    from imagetool.package.identity import Version

    if value is None or isinstance(value, Version):
        return value
    version = Version.parse(value) if isinstance(value, str) else None
    if version is None:
        raise _wrong(name, value, "a version", "Write it as '6.3.9600.19456'.")
    return version


def check_volume(value: object) -> int | None:
    """Return the number of a volume, or None. Raises WrongUsage."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise _wrong("volume", value, "a number", "`imagetool disk map` shows the numbers.")


def check_location(name: str, value: object) -> Location:
    """Return a location, or that of a path here. Raises WrongUsage for anything else."""
    from imagetool.location import Location

    return value if isinstance(value, Location) else Location(check_path(name, value))


def _wrong(name: str, value: object, expected: str, hint: str) -> WrongUsage:
    return WrongUsage(f"{name} is {value!r} ({type(value).__name__}), not {expected}", hint=hint)
