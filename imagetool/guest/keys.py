"""Registry keys as people write them: HKLM\\SOFTWARE\\…, resolved to a hive of an image."""

from __future__ import annotations

from pathlib import Path

from imagetool.disk import FileSource
from imagetool.errors import NotFound, WrongUsage
from imagetool.guest.image import Image
from imagetool.registry import Hive, Key, Value

_ROOTS = ("HKLM", "HKEY_LOCAL_MACHINE")
_HIVES = ("SOFTWARE", "SYSTEM", "SAM", "SECURITY", "COMPONENTS", "DEFAULT", "DRIVERS")


def find_key(image: Image, path: str, volume: int | None = None) -> Key:
    """The key at `path` in an image. Raises NotFound, WrongUsage for another root."""
    parts = _parts(path)
    if not parts or parts[0].upper() not in _ROOTS:
        raise WrongUsage(
            f"{path!r} does not begin with HKLM",
            hint="Write a key as HKLM\\SOFTWARE\\Microsoft\\…; other roots are not in an image.",
        )
    if len(parts) < 2:
        raise WrongUsage(f"{path!r} names no hive", hint=f"HKLM has {', '.join(_HIVES[:4])}.")
    windows = image.windows(volume)
    rest = parts[2:]
    if [part.upper() for part in parts[1:3]] == ["SYSTEM", "CURRENTCONTROLSET"]:
        rest[0] = windows.control_set
    return windows.hive(parts[1]).key("\\".join(rest))


def find_key_in_file(path: Path, key: str) -> tuple[FileSource, Key]:
    """The key in a bare hive file, its logs beside it; the open file is the caller's to close.

    `key` counts from the hive's root; a leading HKLM\\SOFTWARE, HKLM\\SYSTEM … is dropped.
    """
    source = FileSource(path)
    logs: list[FileSource] = []

    def open_logs() -> list[FileSource]:
        for suffix in (".LOG1", ".LOG2", ".LOG"):
            log = path.with_name(path.name + suffix)
            if log.is_file() and log.stat().st_size:
                logs.append(FileSource(log))
        return logs

    try:
        hive = Hive(source, open_logs)
        parts = _parts(key)
        if len(parts) > 1 and parts[0].upper() in _ROOTS and parts[1].upper() in _HIVES:
            parts = parts[2:]
        if parts and parts[0].upper() == "CURRENTCONTROLSET" and hive.find("Select") is not None:
            number = hive.key("Select").number("Current") or 1
            parts = [f"ControlSet{number:03}", *parts[1:]]
        return source, hive.key("\\".join(parts))
    except BaseException:
        source.close()
        raise
    finally:
        for log in logs:
            log.close()


def is_hive(path: Path) -> bool:
    """Whether a file begins as a hive does."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(4) == b"regf"
    except (OSError, ValueError):
        return False


def find_value(image: Image, key: str, name: str, volume: int | None = None) -> Value:
    """The value of that name in the key. Raises NotFound."""
    return value_of(find_key(image, key, volume), key, name)


def value_of(found: Key, key: str, name: str) -> Value:
    """The value of that name; "" is the default one. Raises NotFound."""
    value = found.value(name)
    if value is None:
        raise NotFound(
            f"there is no value {name or '(default)'} in {key}",
            hint="`imagetool registry list` shows what is there.",
        )
    return value


def _parts(path: str) -> list[str]:
    return [part for part in path.split("\\") if part]
