"""The steps of a transaction. A step is data: a name, and facts that are plain JSON.

What a name does, and how it is undone from its facts alone, stands in one module each. Every undo
takes "not there" for done, so that it may run twice, and after a step that was not begun.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from imagetool.contracts import Host, OnEvent
from imagetool.host.files import FileOperations
from imagetool.host.patience import Patience
from imagetool.servicing.plan import Facts, Plan

if TYPE_CHECKING:
    from datetime import datetime

    from imagetool.servicing.payloads import Payload
    from imagetool.verdict.verify import Verification


@dataclass(slots=True)
class Work:
    """The common ground of the steps of a transaction: host, plan, payload, and findings.

    Nothing of it is needed to undo a step.
    """

    host: Host
    plan: Plan
    payload: Payload
    on_event: OnEvent | None = None
    patience: Patience = field(default_factory=Patience)
    image_written: datetime | None = None
    """The time of the image's last write as the host saw it before the work."""
    directory: str = ""
    """The private directory on the host."""
    package_state: str = ""
    proof: Verification | None = None
    dism_log: str = ""
    digests: dict[str, str] = field(default_factory=dict)
    """The SHA-256 of whole files, by their paths on the host."""

    @property
    def files(self) -> FileOperations:
        """The file operations of the host."""
        return FileOperations(self.host)


def _keep_facts(work: Work, facts: Facts) -> Facts:
    return facts


def _nothing(host: Host, facts: Facts, patience: Patience) -> None:
    """Undo a step that changed nothing."""


def _no_remains(host: Host, facts: Facts) -> Iterator[str]:
    return iter(())


@dataclass(frozen=True, slots=True)
class StepKind:
    """A kind of step. `title` says what it does, for people; it may name facts in braces."""

    name: str
    title: str
    do: Callable[[Work, Facts], None]
    undo: Callable[[Host, Facts, Patience], None] = _nothing
    remains: Callable[[Host, Facts], Iterator[str]] = _no_remains
    """Names what of the step lies on the host, by looking there: for what could not be undone."""
    resolve: Callable[[Work, Facts], Facts] = _keep_facts
    """Adds the facts that only the host knows, before the step is recorded and done."""
    scratch: bool = False
    """True if it is undone after success as well: what it makes is of use during the work only."""
    ends_the_work: bool = False
    """True if an interruption while it runs comes too late."""


_MODULES = {
    "directory": "directory",
    "stage": "stage",
    "copy": "copy",
    "mount": "mount",
    "access-path": "access_path",
    "add": "add",
    "read-back": "add",
    "dismount": "dismount",
    "prove": "prove",
    "compare": "compare",
    "digest": "digest",
    "publish": "publish",
}


def step_kind(name: str) -> StepKind:
    """Return the kind of step of that name. Raises KeyError."""
    module = import_module(f"imagetool.servicing.steps.{_MODULES[name]}")
    kinds: dict[str, StepKind] = module.KINDS
    return kinds[name]


def step_names() -> tuple[str, ...]:
    """Return the names of all kinds of steps."""
    return tuple(_MODULES)
