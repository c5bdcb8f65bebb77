"""The cmdlets of the emulated host, registered one by one; each module of PowerShell has a file.

Results carry the types and property names of the real ones, failures their HRESULTs and error ids.
A disk that is mounted comes up offline and read-only, as under the SAN policy of a careful host, so
that a forgotten step fails.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from imagetool.lab.cmdlet import CmdletFailure, CmdletResult, ReportCallback
from imagetool.lab.cmdlet_facts import result_type

if TYPE_CHECKING:
    from imagetool.lab.emulated_host import EmulatedHost

Parameters = dict[str, object]
Implementation = Callable[["EmulatedHost", Parameters, ReportCallback], list[CmdletResult]]

VIRTUALIZATION_EXCEPTION = "Microsoft.HyperV.PowerShell.VirtualizationException"

_MODULES = ("hyper_v", "storage", "dism", "cim")
_registered: dict[str, Implementation] = {}


def cmdlet(name: str) -> Callable[[Implementation], Implementation]:
    """Register a function as the cmdlet of that name."""

    def register(function: Implementation) -> Implementation:
        _registered[name] = function
        return function

    return register


def implementations() -> dict[str, Implementation]:
    """Return all cmdlets by name."""
    for module in _MODULES:
        import_module(f"imagetool.lab.cmdlets.{module}")
    return _registered


def implementation(name: str) -> Implementation:
    """Return the cmdlet of that name. Raises CmdletFailure where there is none."""
    found = implementations().get(name)
    if found is None:
        raise CmdletFailure(
            f"The term '{name}' is not recognized as a name of a cmdlet.",
            category="ObjectNotFound", error_id="CommandNotFoundException",
        )  # fmt: skip
    return found


def result(name: str, known: Parameters) -> CmdletResult:
    """Return a result with every property of the real one, null where the value is unknown."""
    kind, names = result_type(name)
    return CmdletResult(kind, {key: known.get(key) for key in dict.fromkeys([*names, *known])})


def first(value: object) -> object:
    """Return the first of a list of values, a single value as it is."""
    return value[0] if isinstance(value, list) and value else value


def file_path(parameters: Parameters, name: str = "Path") -> Path:
    """Return the file that -Path names, links followed. Raises CmdletFailure."""
    path = Path(str(first(parameters.get(name))))
    if not path.is_file():
        raise CmdletFailure(
            f"'{path}' was not found.", hresult=0x80070002, exception=VIRTUALIZATION_EXCEPTION,
            category="ObjectNotFound", error_id="ObjectNotFound",
        )  # fmt: skip
    return path.resolve()
