"""The effects of the emulated host: what it does as Windows does it, and how that is known."""

from __future__ import annotations

from typing import NamedTuple

from imagetool.lab.cmdlet import CmdletFailure

GUESS = "guess"


class Effect(NamedTuple):
    """What a cmdlet does, or refuses, and how it is known that Windows does so."""

    cmdlet: str
    what: str
    known: str
    """The source that confirms it, or GUESS."""

    @property
    def is_guess(self) -> bool:
        """True if nothing confirms that Windows does so."""
        return self.known == GUESS


_effects: list[Effect] = []


def effect(cmdlet: str, what: str, *, confirmed_by: str = "") -> Effect:
    """Declare an effect; one that nothing confirms is a guess."""
    declared = Effect(cmdlet, what, confirmed_by or GUESS)
    _effects.append(declared)
    return declared


class Refusal(NamedTuple):
    """An effect that is a failure of the cmdlet."""

    effect: Effect
    message: str
    """May name fields in braces."""
    hresult: int
    category: str
    error_id: str
    exception: str

    def __call__(self, **fields: object) -> CmdletFailure:
        """Return the failure."""
        return CmdletFailure(
            self.message.format_map(fields),
            hresult=self.hresult,
            category=self.category,
            error_id=self.error_id,
            exception=self.exception,
        )


def refusal(
    cmdlet: str,
    what: str,
    message: str,
    hresult: int = 0x80131500,
    *,
    confirmed_by: str = "",
    category: str = "NotSpecified",
    error_id: str = "OperationFailed",
    exception: str = "System.Exception",
) -> Refusal:
    """Declare a failure. The HRESULT is by default that of every exception of .NET."""
    declared = effect(cmdlet, what, confirmed_by=confirmed_by)
    return Refusal(declared, message, hresult, category, error_id, exception)


def effects() -> tuple[Effect, ...]:
    """Return all effects, in the order of the cmdlets."""
    from imagetool.lab.cmdlets import implementations

    implementations()  # they declare theirs
    return tuple(sorted(dict.fromkeys(_effects)))
