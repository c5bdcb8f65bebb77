"""PowerShell's parameter binding in Python, by the same table of the cmdlets' parameters."""

from __future__ import annotations

from imagetool.lab.cmdlet import CmdletFailure
from imagetool.lab.cmdlet_facts import CmdletFacts, Parameter

_EXCEPTION = "System.Management.Automation.ParameterBindingException"


def bind(facts: CmdletFacts, arguments: dict[str, object]) -> dict[str, object]:
    """Return the arguments under their parameters' full names.

    Raises CmdletFailure as PowerShell does: NamedParameterNotFound for a parameter that does not
    exist, AmbiguousParameterSet where no set has all of them, MissingMandatoryParameter where the
    remaining set lacks one.
    """
    bound: dict[str, object] = {}
    used: list[Parameter] = []
    for name, value in arguments.items():
        parameter = _find_parameter(facts, name)
        used.append(parameter)
        accepted = [choice.lower() for choice in parameter.values]
        if accepted and str(value).lower() not in accepted:
            raise _binding_error(
                facts,
                "ValidateSetFailure",
                f"Cannot validate argument on parameter '{parameter.name}'.",
            )
        if parameter.type == "SwitchParameter" and not value:
            continue
        bound[parameter.name] = value
    sets = [
        name
        for name in facts.sets
        if all(not parameter.sets or name in parameter.sets for parameter in used)
    ]
    complete = [name for name in sets if not _missing_mandatory(facts, name, bound)]
    if not sets or (len(complete) != 1 and facts.default_set not in complete and not complete):
        missing = [
            parameter for name in sets for parameter in _missing_mandatory(facts, name, bound)
        ]
        if sets and (len(sets) == 1 or facts.default_set in sets) and missing:
            raise _binding_error(
                facts,
                "MissingMandatoryParameter",
                f"Cannot process command because of one or more missing mandatory parameters: "
                f"{missing[0]}.",
            )
        raise _binding_error(
            facts,
            "AmbiguousParameterSet",
            "Parameter set cannot be resolved using the specified named parameters.",
        )
    return bound


def _find_parameter(facts: CmdletFacts, name: str) -> Parameter:
    lower = name.lower()
    for parameter in facts.parameters:
        if lower in (parameter.name.lower(), *(alias.lower() for alias in parameter.aliases)):
            return parameter
    beginning = [p for p in facts.parameters if p.name.lower().startswith(lower)]
    if len(beginning) == 1:
        return beginning[0]
    raise _binding_error(
        facts,
        "NamedParameterNotFound" if not beginning else "AmbiguousParameter",
        f"A parameter cannot be found that matches parameter name '{name}'.",
    )


def _missing_mandatory(facts: CmdletFacts, name: str, bound: dict[str, object]) -> list[str]:
    return [
        parameter.name
        for parameter in facts.parameters
        if parameter.required
        and (not parameter.sets or name in parameter.sets)
        and parameter.name not in bound
    ]


def _binding_error(facts: CmdletFacts, error_id: str, message: str) -> CmdletFailure:
    return CmdletFailure(
        message,
        hresult=0x80131501,
        category="InvalidArgument",
        error_id=error_id,
        exception=_EXCEPTION,
    )
