"""Checks of the arguments of the public API: wrong types end in WrongUsage, not in a traceback."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING

from imagetool.errors import WrongUsage

if TYPE_CHECKING:
    from imagetool.location import Location
    from imagetool.package.identity import Version
    from imagetool.servicing.targets import Request

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


def check_request(
    image: object,
    package: object,
    output: object,
    host: object,
    volume: object,
    digest: object,
    allow_unsigned: object,
    trust: object,
) -> Request:
    """Return what `plan` and `inject` are asked for. Raises WrongUsage, Unsupported."""
    from imagetool.connection import Connection, named_host, servicing_host
    from imagetool.errors import Unsupported
    from imagetool.package.trust import read_trusted_roots
    from imagetool.servicing.targets import Request, common_host

    source = check_location("image", image)
    packages = check_one_or_several("package", package)
    if not packages:
        raise WrongUsage("package is empty", hint="Name an ISO or a CAB.")
    if len(packages) > 1:
        raise Unsupported("several packages at once come later", hint="Name one package.")
    target = None if output is None else check_location("output", output)
    named = [item for item in (source, target) if item is not None]
    if isinstance(host, Connection):
        common_host(named, host.name)
        chosen = host.host
    else:
        name = common_host(named, None if host is None else check_text("host", host))
        by_location = name is not None and host is None
        chosen = named_host(name) if by_location else servicing_host(name)
    return Request(
        source,
        packages[0],
        target,
        chosen,
        check_volume(volume),
        check_flag("digest", digest),
        check_flag("allow_unsigned", allow_unsigned),
        read_trusted_roots(check_paths("trust", trust)),
    )


def _wrong(name: str, value: object, expected: str, hint: str) -> WrongUsage:
    return WrongUsage(f"{name} is {value!r} ({type(value).__name__}), not {expected}", hint=hint)
