"""The cost of commands on an image on a host: exchanges, and bytes of frames.

Through the emulated host, and the PowerShell engine where there is one. Over WinRM an exchange is
two HTTP round trips, and what is counted here as bytes takes a third more.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from imagetool.guest.image import Image, open_image
from imagetool.guest.inspection import inspect_image
from imagetool.guest.registry_keys import find_value
from imagetool.host.local import find_powershell
from imagetool.host.reading import HostFiles
from imagetool.host.session import Session
from imagetool.lab.emulated_host import EmulatedHost
from imagetool.lab.session import open_lab
from imagetool.verdict.verify import verify


class WireCost(NamedTuple):
    """The cost of one command on one image."""

    exchanges: int
    size: int
    """Bytes of frames in both directions."""


class Meter:
    """Counts the exchanges and bytes of a session."""

    def __init__(self, session: Session) -> None:
        self.exchanges = self.size = 0
        operate, transport = session.operate, session._transport
        send, receive = transport.send, transport.receive_line

        def counted(operation: str, **parameters: Any) -> Any:
            self.exchanges += 1
            return operate(operation, **parameters)

        def sent(data: bytes) -> None:
            self.size += len(data)
            send(data)

        def received(timeout: float) -> bytes | None:
            line = receive(timeout)
            self.size += len(line or b"")
            return line

        session.operate = counted  # type: ignore[method-assign]
        transport.send, transport.receive_line = sent, received  # type: ignore[method-assign]

    def take(self) -> WireCost:
        """Return the counts since the last call, and reset them."""
        cost = WireCost(self.exchanges, self.size)
        self.exchanges = self.size = 0
        return cost


def questions(key: str, name: str) -> dict[str, Callable[[Image], object]]:
    """Return the measured commands by name."""
    return {
        "verify": verify,
        "inspect": inspect_image,
        "registry value": lambda image: find_value(image, key, name),
    }


def costs(path: Path, question: Callable[[Image], object]) -> tuple[WireCost, WireCost]:
    """Measure the first image of a session, and the next one like it."""
    found = []
    with open_lab(EmulatedHost(), engine=find_powershell()) as session:
        assert isinstance(session, Session)
        meter = Meter(session)
        files = HostFiles(session, "lab", lazy_close=True)
        for _ in range(2):
            with open_image(path, files=files) as image:
                question(image)
            found.append(meter.take())
    return found[0], found[1]
