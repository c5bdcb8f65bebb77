"""Checks of the arguments of the public API: wrong types end in WrongUsage, not in a traceback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING

from imagetool.errors import WrongUsage

if TYPE_CHECKING:
    from imagetool.contracts import Host
    from imagetool.host.session import Session
    from imagetool.package.identity import Version

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


def check_session(value: object) -> Host | None:
    """Return an open session, or None. Raises WrongUsage, for the name of a host as well."""
    from imagetool.host.session import Session

    if value is None or isinstance(value, Session):
        return value
    raise _wrong("session", value, "a session", "Open one with imagetool.connect('hv01').")


def checked_opener(value: object) -> Callable[[], Session]:
    """Return a function that opens a session, and raises WrongUsage where it opens anything else.

    Raises WrongUsage for what is no function.
    """
    from imagetool.host.session import Session

    hint = "Write open_session=lambda: imagetool.connect('hv01')."
    if not callable(value):
        raise WrongUsage(f"open_session is {value!r}, not a function", hint=hint)

    def open_session() -> Session:
        try:
            opened = value()
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:
                raise WrongUsage(f"open_session cannot be called: {error}", hint=hint) from None
            raise
        if not isinstance(opened, Session):
            raise _wrong("the result of open_session", opened, "a session", hint)
        return opened

    return open_session


def _wrong(name: str, value: object, expected: str, hint: str) -> WrongUsage:
    return WrongUsage(f"{name} is {value!r} ({type(value).__name__}), not {expected}", hint=hint)
