"""What the endpoint has answered, for whoever counts."""

from __future__ import annotations

from typing import NamedTuple


class ServedRequest(NamedTuple):
    """One HTTP request and its answer."""

    action: str
    """Create, Command, Send, Receive, Signal, Delete, Get, Identify; Authenticate where a
    handshake went on or failed; empty where no envelope could be read."""
    status: int
    """The HTTP status; 0 where the connection was dropped before it."""
    received: int
    """Bytes of the request's body, as they came."""
    sent: int
    """Bytes of the answer's body, as they went."""
