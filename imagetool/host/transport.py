"""How lines travel between a session and its script."""

from __future__ import annotations

from typing import Protocol


class Transport(Protocol):
    """A way to the script: a local process, the emulated host, later WinRM."""

    def send_line(self, line: bytes) -> None:
        """Send a line that ends in a line feed. Raises HostFailed where nobody listens."""

    def receive_line(self, timeout: float) -> bytes | None:
        """The next line, or None where none came in `timeout` seconds.

        Raises HostFailed where the script has ended.
        """

    def close(self) -> None:
        """End the script's input, and the script with it; never raises."""
