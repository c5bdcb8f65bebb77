"""The real cmdlets' parameters and results, read from facts/*.json, which name their sources."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_ALL_SETS = "(All)"
_SUPPLIED_BY_POWERSHELL = ("Confirm", "WhatIf")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a cmdlet."""

    name: str
    type: str
    """The name of its .NET type without System."""
    sets: tuple[str, ...]
    """The parameter sets that have it; empty: all of them."""
    required: bool
    position: int | None
    aliases: tuple[str, ...]
    values: tuple[str, ...]
    """The values that it accepts; empty: any."""
    pipeline: str


@dataclass(frozen=True, slots=True)
class CmdletFacts:
    """A cmdlet: its module, parameter sets and parameters."""

    name: str
    module: str
    sets: tuple[str, ...]
    default_set: str
    parameters: tuple[Parameter, ...]
    should_process: bool
    """True if it has -WhatIf and -Confirm (SupportsShouldProcess)."""


def _load_facts(name: str) -> dict[str, dict[str, dict[str, object]]]:
    text = files("imagetool.lab").joinpath("facts", name).read_text(encoding="utf-8")
    data: dict[str, dict[str, dict[str, object]]] = json.loads(text)
    return data


@cache
def cmdlets() -> dict[str, CmdletFacts]:
    """Return the cmdlets of the emulated host by name."""
    found = {}
    for name, entry in _load_facts("cmdlets.json")["cmdlets"].items():
        listed = entry["parameters"]
        assert isinstance(listed, dict)
        sets = entry["sets"]
        assert isinstance(sets, list)
        found[name] = CmdletFacts(
            name=name,
            module=str(entry["module"]),
            sets=tuple(sets),
            default_set=str(entry["default"]),
            parameters=tuple(
                Parameter(
                    name=parameter,
                    type=str(facts["type"]),
                    sets=tuple(s for s in facts["sets"] if s != _ALL_SETS),
                    required=bool(facts.get("required")),
                    position=int(facts["position"]) if "position" in facts else None,
                    aliases=tuple(facts.get("aliases", ())),
                    values=tuple(facts.get("values", ())),
                    pipeline=str(facts.get("pipeline", "")),
                )
                for parameter, facts in listed.items()
                if parameter not in _SUPPLIED_BY_POWERSHELL
            ),
            should_process="WhatIf" in listed,
        )
    return found


@cache
def result_type(cmdlet: str) -> tuple[str, tuple[str, ...]]:
    """Return the .NET type of a cmdlet's results and the names of their properties."""
    entry = _load_facts("results.json")["results"][cmdlet]
    properties = entry["properties"]
    assert isinstance(properties, list)
    return str(entry["type"]), tuple(properties)
