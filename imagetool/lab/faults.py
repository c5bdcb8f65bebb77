"""Faults at the nth call: of a cmdlet, of an operation, of a request to the endpoint, of a write.

A text names them: `NAME=ACTION` for every call, `NAME#N=ACTION` for the Nth alone, several of them
separated by commas; the name `*` is any cmdlet or operation. Actions are 0xHRESULT (the call fails
with it), delay:SECONDS, hang (until the other side goes), drop (the connection is closed without an
answer), kill (the process ends at once), and signal:NAME (a signal to the process, INT for Ctrl-C).
The name `disk-write` is a write of the process that writes to an image's disk; it sees the variable
as the emulated host was started with.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from imagetool.contracts import Host, OnEvent, Result
from imagetool.errors import HostFailed, WrongUsage
from imagetool.lab.cmdlet import CmdletFailure

DISK_WRITE = "disk-write"

_LONGEST_HANG = 3600.0


@dataclass(slots=True)
class Fault:
    """A fault of a kind, that happens to calls of a name."""

    kind: str
    name: str | None
    """None: calls of any name, but for writes to a disk, whose number differs from run to run."""
    countdown: int = 1
    """Calls of the name until it happens, once; 1 is the next one. 0: it happens to each."""
    seconds: float = 0.0
    status: int = 500
    """The HTTP status of a response."""
    failure: CmdletFailure | None = None
    action: Callable[[], object] | None = None
    """Called as the fault: for tests that act at exactly that call."""


class FaultMatcher:
    """Finds the faults that happen to a call. Safe from any thread."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lock = threading.Lock()
        self._pending = list(faults)

    def add(self, fault: Fault) -> None:
        """Add a fault; its calls are counted from now on."""
        with self._lock:
            self._pending.append(fault)

    def take_due(self, name: str) -> list[Fault]:
        """Count a call, and return the faults that happen to it."""
        due = []
        with self._lock:
            for fault in list(self._pending):
                if not self.concerns(fault, name):
                    continue
                if fault.countdown == 0:
                    due.append(fault)
                    continue
                fault.countdown -= 1
                if fault.countdown == 0:
                    self._pending.remove(fault)
                    due.append(fault)
        return due

    def concerns(self, fault: Fault, name: str) -> bool:
        """True if a call of that name counts for a fault."""
        return fault.name == name or (fault.name is None and name != DISK_WRITE)

    @property
    def pending(self) -> int:
        """The number of faults that have not happened yet."""
        with self._lock:
            return len(self._pending)


def parse_faults(text: str) -> FaultMatcher:
    """Parse a text as IMAGETOOL_LAB_FAULTS has it. Raises WrongUsage."""
    return FaultMatcher(_parse_fault(part.strip()) for part in text.split(",") if part.strip())


def _parse_fault(text: str) -> Fault:
    target, _, action = text.partition("=")
    name, counted, count = target.partition("#")
    kind, _, argument = action.partition(":")
    try:
        fault = Fault(kind, None if name == "*" else name, int(count) if counted else 0)
        if kind.lower().startswith("0x"):
            fault.kind = "fail"
            hresult = int(kind, 16)
            fault.failure = CmdletFailure("A failure that was asked for.", hresult=hresult)
        elif kind == "delay":
            fault.seconds = float(argument)
        elif kind == "signal":
            fault.action = _raiser(signal.Signals[f"SIG{argument}"])
        elif kind not in ("hang", "drop", "kill"):
            raise ValueError
        if not name or (counted and fault.countdown < 1):
            raise ValueError
    except (ValueError, KeyError):
        raise WrongUsage(
            f"IMAGETOOL_LAB_FAULTS: {text!r} is no NAME=ACTION or NAME#N=ACTION",
            hint="An action is 0xHRESULT, delay:SECONDS, hang, drop, kill, or signal:NAME.",
        ) from None
    return fault


def _raiser(number: signal.Signals) -> Callable[[], object]:
    return lambda: signal.raise_signal(number)


class Dropped(Exception):
    """The connection is to be closed without an answer."""


def strike(matcher: FaultMatcher, name: str, gone: threading.Event | None = None) -> None:
    """Count a call and do what its faults are; `gone` is set when the other side has gone.

    Raises CmdletFailure for a call that is to fail, Dropped.
    """
    for fault in matcher.take_due(name):
        if fault.action is not None:
            fault.action()
        elif fault.kind == "kill":
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        elif fault.kind == "drop":
            raise Dropped
        elif fault.kind in ("hang", "delay"):
            seconds = fault.seconds if fault.kind == "delay" else _LONGEST_HANG
            (gone or threading.Event()).wait(seconds)
        elif fault.failure is not None:
            raise fault.failure


class FaultyHost:
    """A host whose calls meet faults. `matcher` counts cmdlets and operations by their names."""

    def __init__(self, host: Host, matcher: FaultMatcher) -> None:
        self._host = host
        self._matcher = matcher

    @property
    def description(self) -> str:
        """As Host.description."""
        return self._host.description

    @property
    def hello(self) -> Mapping[str, object]:
        """As Host.hello."""
        return self._host.hello

    @property
    def on_windows(self) -> bool:
        """As Host.on_windows."""
        return self._host.on_windows

    @property
    def emulated(self) -> bool:
        """As Host.emulated."""
        return self._host.emulated

    @property
    def modules(self) -> Sequence[str]:
        """As Host.modules."""
        return self._host.modules

    def invoke(
        self,
        cmdlet: str,
        *,
        properties: Sequence[str] = (),
        keep: bool = False,
        deadline: float | None = None,
        on_event: OnEvent | None = None,
        **parameters: object,
    ) -> list[Result]:
        """As Host.invoke."""
        self._strike(cmdlet)
        return self._host.invoke(
            cmdlet,
            properties=properties,
            keep=keep,
            deadline=deadline,
            on_event=on_event,
            **parameters,
        )

    def operate(
        self,
        operation: str,
        *,
        data: bytes | None = None,
        deadline: float | None = None,
        on_event: OnEvent | None = None,
        **parameters: object,
    ) -> Result:
        """As Host.operate."""
        self._strike(operation)
        return self._host.operate(
            operation, data=data, deadline=deadline, on_event=on_event, **parameters
        )

    def _strike(self, name: str) -> None:
        try:
            strike(self._matcher, name)
        except CmdletFailure as error:
            raise error.as_failed(name) from None
        except Dropped:
            raise HostFailed(f"the connection to the host broke: {name}") from None

    def close(self) -> None:
        """As Host.close."""
        self._host.close()

    def __enter__(self) -> FaultyHost:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
