"""The control set that Windows boots next: Select\\Default of the SYSTEM hive.

The boot loader looks for that set and stops where it is not there; Select\\Current is what the last
boot used. CurrentControlSet itself is a link that exists while Windows runs, never in a file.
"""

from __future__ import annotations

from typing import NamedTuple

from imagetool.errors import Corrupt
from imagetool.registry import Hive


class ControlSet(NamedTuple):
    """A control set by the name of its key, ControlSet001, and a warning about the choice."""

    name: str
    warning: str
    """A sentence where the last boot used another set; else empty."""


def next_control_set(system: Hive) -> ControlSet:
    """Find the control set that boots next. Raises Corrupt where there is none."""
    select = system.find("Select")
    if select is None:
        raise _no_control_set(system, "there is no key Select")
    chosen, current = select.number("Default"), select.number("Current")
    name = _name(chosen)
    if not name or system.find(name) is None:
        raise _no_control_set(system, f"Select\\Default is {chosen}, and there is no such set")
    if current is None or current == chosen:
        return ControlSet(name, "")
    return ControlSet(
        name,
        f"the last boot used {_name(current) or current}, the next one uses {name} "
        "(Select\\Current and Select\\Default)",
    )


def _name(number: int | None) -> str:
    return f"ControlSet{number:03}" if number is not None and 0 < number < 1000 else ""


def _no_control_set(system: Hive, what: str) -> Corrupt:
    return Corrupt(
        f"{system.name}: no control set boots next: {what}",
        hint="The hive is damaged: restore the image.",
    )
