"""From the name of a host to a session with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from imagetool.errors import Unsupported

if TYPE_CHECKING:
    from imagetool.host.session import Session


def session_opener(host: str) -> Callable[[], Session]:
    """What opens a session with `local` or `lab`. Raises Unsupported for other hosts, for now."""
    if host == "lab":
        from imagetool.lab import open_lab

        return open_lab
    if host == "local":
        from imagetool.host.local import open_local

        return open_local
    raise Unsupported(
        f"{host}: hosts over WinRM are not reached yet",
        hint="Run imagetool on the Hyper-V host itself with --host local, or rehearse on lab.",
    )
