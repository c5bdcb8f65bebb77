"""What shall go wrong at the endpoint, and when: for tests of clients."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(slots=True)
class InjectedFault:
    """One thing that goes wrong, once."""

    kind: str
    action: str | None
    countdown: int
    """How many matching requests are still to come, this one included."""
    seconds: float = 0.0
    status: int = 500


class FaultInjector:
    """FaultInjector that are waiting for their request; each happens once.

    `n` counts the requests that match from now on, the next one is 1. `action` is Create, Command,
    Send, Receive, Signal, Delete, Get or Identify, and None matches each of these; the steps of a
    handshake count only where it is Authenticate. May be called at any time, from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: list[InjectedFault] = []

    def drop_before(self, n: int = 1, action: str | None = None) -> FaultInjector:
        """Close the connection; the request has no effect."""
        return self._add(InjectedFault("drop before", action, n))

    def drop_after(self, n: int = 1, action: str | None = None) -> FaultInjector:
        """Close the connection when the request has had its effect, before any answer."""
        return self._add(InjectedFault("drop after", action, n))

    def drop_within(self, n: int = 1, action: str | None = None) -> FaultInjector:
        """Close the connection in the middle of the answer's body."""
        return self._add(InjectedFault("drop within", action, n))

    def kill(self, n: int = 1, action: str | None = None) -> FaultInjector:
        """Kill the processes of the request's shell, then process the request."""
        return self._add(InjectedFault("kill", action, n))

    def delay(self, seconds: float, n: int = 1, action: str | None = None) -> FaultInjector:
        """Process the request, and answer `seconds` later."""
        return self._add(InjectedFault("delay", action, n, seconds=seconds))

    def send_times_out(self, n: int = 1) -> FaultInjector:
        """Take the input of a Send, and answer with the fault of a timeout."""
        return self._add(InjectedFault("timed out", "Send", n))

    def send_busy(self, n: int = 1) -> FaultInjector:
        """Do not take the input of a Send, and answer that the resource is in use (170)."""
        return self._add(InjectedFault("busy", "Send", n))

    def deny_create(self, n: int = 1, status: int = 500) -> FaultInjector:
        """Answer a Create with the fault "access is denied" (5) and this HTTP status."""
        return self._add(InjectedFault("denied", "Create", n, status=status))

    def _add(self, fault: InjectedFault) -> FaultInjector:
        with self._lock:
            self._pending.append(fault)
        return self

    def take_due(self, action: str) -> dict[str, InjectedFault]:
        """The faults whose request this is, by what they do; they are used up."""
        found: dict[str, InjectedFault] = {}
        with self._lock:
            for fault in list(self._pending):
                handshake = action == "Authenticate" and fault.action is None
                if handshake or fault.action not in (None, action):
                    continue
                fault.countdown -= 1
                if fault.countdown == 0:
                    self._pending.remove(fault)
                    found[fault.kind] = fault
        return found

    @property
    def pending(self) -> int:
        """How many have not happened yet."""
        with self._lock:
            return len(self._pending)
