"""Strategies: which steps, in which order. A new way to change an image is a new module."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from imagetool.servicing.plan import Plan, PlannedStep


class Strategy(Protocol):
    """A way to bring a payload into an image."""

    def steps(self, plan: Plan) -> Iterable[PlannedStep]:
        """Return the steps of a plan whose other fields are there."""
