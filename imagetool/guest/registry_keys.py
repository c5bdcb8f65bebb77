"""Registry keys and values by full path: HKLM\\SOFTWARE\\… resolved to a hive of an image."""

from __future__ import annotations

from contextlib import suppress

from imagetool.contracts import OpenFile
from imagetool.errors import EmptyFile, NoFile, NotFound, WrongUsage
from imagetool.guest.image import Image
from imagetool.guest.windows.control_set import next_control_set
from imagetool.registry import Hive, Key, Value

_ROOT_KEYS = ("HKLM", "HKEY_LOCAL_MACHINE")
_HIVE_NAMES = ("SOFTWARE", "SYSTEM", "SAM", "SECURITY", "COMPONENTS", "DEFAULT", "DRIVERS")


def find_key(image: Image, path: str, volume: int | None = None) -> Key:
    """Find the key at `path` in an image. Raises NotFound, or WrongUsage for another root."""
    parts = _parts(path)
    if not parts or parts[0].upper() not in _ROOT_KEYS:
        raise WrongUsage(
            f"{path!r} does not begin with HKLM",
            hint="Write a key as HKLM\\SOFTWARE\\Microsoft\\…; other roots are not in an image.",
        )
    if len(parts) < 2:
        raise WrongUsage(f"{path!r} names no hive", hint=f"HKLM has {', '.join(_HIVE_NAMES[:4])}.")
    windows = image.windows(volume)
    rest = parts[2:]
    if [part.upper() for part in parts[1:3]] == ["SYSTEM", "CURRENTCONTROLSET"]:
        rest[0] = windows.control_set
    return windows.hive(parts[1]).key("\\".join(rest))


def open_hive(file: OpenFile) -> Hive:
    """Open a hive file, with the transaction logs beside it. Raises Corrupt, Unsupported."""
    logs: list[OpenFile] = []

    def open_logs() -> list[OpenFile]:
        for suffix in (".LOG1", ".LOG2", ".LOG"):
            with suppress(NoFile, EmptyFile):
                logs.append(file.files.open(file.path + suffix))
        return logs

    try:
        return Hive(file, open_logs)
    finally:
        for log in logs:
            log.close()


def find_key_in_hive(hive: Hive, key: str) -> tuple[Key, tuple[str, ...]]:
    """Find a key in a hive of a file of its own, with warnings. Raises NotFound, Corrupt.

    `key` is relative to the hive's root; a leading HKLM\\SOFTWARE, HKLM\\SYSTEM … is dropped.
    """
    parts = _parts(key)
    if len(parts) > 1 and parts[0].upper() in _ROOT_KEYS and parts[1].upper() in _HIVE_NAMES:
        parts = parts[2:]
    if parts and parts[0].upper() == "CURRENTCONTROLSET" and hive.find("Select") is not None:
        found = next_control_set(hive)
        warnings = (found.warning,) if found.warning else ()
        return hive.key("\\".join([found.name, *parts[1:]])), warnings
    return hive.key("\\".join(parts)), ()


def is_hive(file: OpenFile) -> bool:
    """True if a file begins with the signature of a hive (regf)."""
    return file.read_at(0, 4) == b"regf"


def find_value(image: Image, key: str, name: str, volume: int | None = None) -> Value:
    """Find the value `name` of the key at the full path `key` in an image. Raises NotFound."""
    with image.budget:
        return get_value(find_key(image, key, volume), key, name)


def get_value(key: Key, path: str, name: str) -> Value:
    """Return the value `name` of a key; "" is the default value. Raises NotFound, with `path`."""
    value = key.value(name)
    if value is None:
        raise NotFound(
            f"there is no value {name or '(default)'} in {path}",
            hint="`imagetool registry list` shows what is there.",
        )
    return value


def _parts(path: str) -> list[str]:
    return [part for part in path.split("\\") if part]
