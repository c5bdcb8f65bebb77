"""Limits of the endpoint, with the names and defaults of winrm/config."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from imagetool.errors import WrongUsage


@dataclass(frozen=True, slots=True)
class Limits:
    """The quotas of [MS-WSMV] 2.2.4.10 and of the shell's configuration that matter to a client."""

    max_envelope_size_kb: int = 500
    """The largest envelope in either direction, in units of 1,024 bytes."""
    max_timeout_ms: int = 60_000
    """The upper bound of OperationTimeout; longer ones are cut to it."""
    idle_timeout_ms: int = 7_200_000
    """A shell without requests for this time is deleted; Create may name another time."""
    max_shells_per_user: int = 30
    max_processes_per_shell: int = 25
    max_operations_per_shell: int = 1500
    """Commands in a shell's life, those that have ended included."""
    max_connections: int = 100
    connection_timeout_ms: int = 120_000
    """An idle connection is closed after this time."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 31:
                raise WrongUsage(
                    f"{field.name} is {value!r}, which is no whole number from 1 to 2147483647"
                )

    @property
    def max_envelope_size(self) -> int:
        """The largest envelope, in bytes."""
        return self.max_envelope_size_kb * 1024


_MAX_FILE_SIZE = 64 << 10


def read_limits(path: Path) -> Limits:
    """Read the table [limits] of a TOML file; limits that it does not name keep their defaults.

    Raises WrongUsage where the file cannot be read or has other content.
    """
    try:
        with path.open("rb") as file:
            document = tomllib.loads(file.read(_MAX_FILE_SIZE).decode("utf-8"))
    except OSError as error:
        raise WrongUsage(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, no TOML, numbers without an end
        raise WrongUsage(f"{path} is no TOML: {error}") from None
    known = [field.name for field in fields(Limits)]
    table = document.get("limits", {})
    strange = sorted(set(document) - {"limits"})
    if strange or not isinstance(table, dict):
        raise WrongUsage(
            f"{path}: {strange[0] if strange else 'limits'!r} is no table that the endpoint knows",
            hint="It reads one table, [limits].",
        )
    strange = sorted(set(table) - set(known))
    if strange:
        raise WrongUsage(
            f"{path}: there is no limit {strange[0]!r}",
            hint=f"There are: {', '.join(known)}.",
        )
    try:
        return Limits(**table)
    except WrongUsage as error:
        raise WrongUsage(f"{path}: {error.message}") from None
