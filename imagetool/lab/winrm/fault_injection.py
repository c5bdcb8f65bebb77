"""Faults injected into the endpoint, for tests of clients."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(slots=True)
class InjectedFault:
    """A fault that happens once, to one request."""

    kind: str
    action: str | None
    countdown: int
    """Matching requests until the fault happens; 1 is the next one."""
    seconds: float = 0.0
    status: int = 500


class FaultInjector:
    """Injects faults into requests; each fault happens once.

    `n` counts the requests that match from now on, the next one is 1. `action` is Create, Command,
    Send, Receive, Signal, Delete, Get or Identify, and None matches each of these; the steps of a
    handshake match only Authenticate. Safe at any time, from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: list[InjectedFault] = []

    def drop_before(self, n: int = 1, action: str | None = None) -> FaultInjector:
        """Close the connection in place of processing the request."""
        return self._add(InjectedFault("drop before", action, n))

    def drop_after(self, n: int = 1, action: str | None = None) -> FaultInjector:
        """Process the request, and close the connection in place of a response."""
        return self._add(InjectedFault("drop after", action, n))

    def drop_within(self, n: int = 1, action: str | None = None) -> FaultInjector:
        """Process the request, and close the connection in the middle of the response's body."""
        return self._add(InjectedFault("drop within", action, n))

    def kill(self, n: int = 1, action: str | None = None) -> FaultInjector:
        """Kill the processes of the request's shell, then process the request."""
        return self._add(InjectedFault("kill", action, n))

    def delay(self, seconds: float, n: int = 1, action: str | None = None) -> FaultInjector:
        """Process the request, and respond `seconds` later."""
        return self._add(InjectedFault("delay", action, n, seconds=seconds))

    def send_times_out(self, n: int = 1) -> FaultInjector:
        """Process a Send, and respond with the fault of a timeout."""
        return self._add(InjectedFault("timed out", "Send", n))

    def send_busy(self, n: int = 1) -> FaultInjector:
        """Respond to a Send with the fault "resource in use" (170), without taking its input."""
        return self._add(InjectedFault("busy", "Send", n))

    def deny_create(self, n: int = 1, status: int = 500) -> FaultInjector:
        """Respond to a Create with the fault "access is denied" (5) and this HTTP status."""
        return self._add(InjectedFault("denied", "Create", n, status=status))

    def _add(self, fault: InjectedFault) -> FaultInjector:
        with self._lock:
            self._pending.append(fault)
        return self

    def take_due(self, action: str) -> dict[str, InjectedFault]:
        """Count a request; remove and return the faults that happen to it, by kind."""
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
        """The number of faults that have not happened yet."""
        with self._lock:
            return len(self._pending)
