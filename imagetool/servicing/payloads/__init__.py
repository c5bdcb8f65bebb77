"""Payloads: what is put into an image. A payload describes itself, runs, and says what to expect.

The strategies and the engine know this contract alone; a new kind of payload is a new module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from imagetool.contracts import Host, OnEvent
    from imagetool.guest.image import Image
    from imagetool.servicing.plan import Plan
    from imagetool.verdict.verify import Verification


class Staged(NamedTuple):
    """The paths on the host that a payload works with."""

    file: str
    """The staged package."""
    volume: str
    """The directory that the Windows volume of the copy is mounted in."""
    log: str
    """The file that DISM writes its log to."""
    scratch: str
    """The directory for DISM's own files."""


class Payload(Protocol):
    """Something that is put into an offline Windows."""

    @property
    def data(self) -> bytes:
        """The bytes of the file that is staged on the host."""

    @property
    def title(self) -> str:
        """Its name for people: an identity."""

    def probe(self, host: Host, staged: Staged) -> None:
        """Check that the host can service the mounted volume at all. Raises ServicingFailed."""

    def run(self, host: Host, staged: Staged, on_event: OnEvent | None) -> None:
        """Put it into the mounted volume. Raises CmdletFailed, HostFailed."""

    def read_back(self, host: Host, staged: Staged) -> str:
        """Return its state as the host reads it back from the volume. Raises ServicingFailed."""

    def expect(self, image: Image, plan: Plan) -> Verification:
        """Prove by imagetool's own readers that it is in the image. Raises ServicingFailed."""
