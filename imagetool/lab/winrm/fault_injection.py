"""Faults injected into the endpoint, for tests of clients."""

from __future__ import annotations

from imagetool.lab.faults import Fault, FaultMatcher


class FaultInjector(FaultMatcher):
    """Injects faults into requests; each fault happens once.

    `n` counts the requests that match from now on, the next one is 1. `action` is Create, Command,
    Send, Receive, Signal, Delete, Get or Identify, and None matches each of these; the steps of a
    handshake match only Authenticate. Safe at any time, from any thread.
    """

    def drop_before(self, n: int = 1, action: str | None = None) -> FaultInjector:
        """Close the connection in place of processing the request."""
        return self._add(Fault("drop before", action, n))

    def drop_after(self, n: int = 1, action: str | None = None) -> FaultInjector:
        """Process the request, and close the connection in place of a response."""
        return self._add(Fault("drop after", action, n))

    def drop_within(self, n: int = 1, action: str | None = None) -> FaultInjector:
        """Process the request, and close the connection in the middle of the response's body."""
        return self._add(Fault("drop within", action, n))

    def kill(self, n: int = 1, action: str | None = None) -> FaultInjector:
        """Kill the processes of the request's shell, then process the request."""
        return self._add(Fault("kill", action, n))

    def delay(self, seconds: float, n: int = 1, action: str | None = None) -> FaultInjector:
        """Process the request, and respond `seconds` later."""
        return self._add(Fault("delay", action, n, seconds=seconds))

    def send_times_out(self, n: int = 1) -> FaultInjector:
        """Process a Send, and respond with the fault of a timeout."""
        return self._add(Fault("timed out", "Send", n))

    def send_busy(self, n: int = 1) -> FaultInjector:
        """Respond to a Send with the fault "resource in use" (170), without taking its input."""
        return self._add(Fault("busy", "Send", n))

    def deny_create(self, n: int = 1, status: int = 500) -> FaultInjector:
        """Respond to a Create with the fault "access is denied" (5) and this HTTP status."""
        return self._add(Fault("denied", "Create", n, status=status))

    def _add(self, fault: Fault) -> FaultInjector:
        self.add(fault)
        return self

    def concerns(self, fault: Fault, name: str) -> bool:
        """As FaultMatcher.concerns; a fault of any action is for none of a handshake's."""
        return fault.name == name or (fault.name is None and name != "Authenticate")
