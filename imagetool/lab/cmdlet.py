"""Results, stream records and failures of emulated cmdlets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from imagetool.host.answers import CmdletFailed


class CmdletFailure(Exception):
    """A terminating error: HRESULT, message, category, error id and .NET exception type."""

    def __init__(
        self,
        message: str,
        *,
        hresult: int = 0x80004005,
        category: str = "NotSpecified",
        error_id: str = "",
        exception: str = "System.Runtime.InteropServices.COMException",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hresult = hresult
        self.category = category
        self.error_id = error_id
        self.exception = exception

    def as_failed(self, name: str) -> CmdletFailed:
        """Return the error that a session raises for it; `name` is that of what was asked for."""
        error_id = ",".join(filter(None, (self.error_id, name)))
        return CmdletFailed(name, self.message, self.hresult, self.category, error_id)


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """A record of a cmdlet's progress or warning stream: kind "progress" or "warning"."""

    kind: str
    text: str
    percent: int = -1


@dataclass(frozen=True, slots=True)
class CmdletResult:
    """An object that a cmdlet outputs: the name of its .NET type, and its properties."""

    type: str
    properties: dict[str, object] = field(default_factory=dict)


ReportCallback = Callable[[StreamRecord], None]
