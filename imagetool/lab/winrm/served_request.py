"""The record of a request that the endpoint has answered."""

from __future__ import annotations

from typing import NamedTuple


class ServedRequest(NamedTuple):
    """An HTTP request and its response, in numbers."""

    action: str
    """Create, Command, Send, Receive, Signal, Delete, Get, Identify; Authenticate for a step of a
    handshake; empty where no envelope could be read."""
    status: int
    """The HTTP status; 0 where the connection was dropped before it."""
    received: int
    """Bytes of the request's body, sealed or plain."""
    sent: int
    """Bytes of the response's body, sealed or plain."""
