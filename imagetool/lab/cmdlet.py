"""What an emulated cmdlet takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


class CmdletFailure(Exception):
    """A cmdlet fails as the real one does: HRESULT, message, category, error id, exception."""

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


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """What a cmdlet says while it runs: kind "progress" or "warning"."""

    kind: str
    text: str
    percent: int = -1


@dataclass(frozen=True, slots=True)
class CmdletResult:
    """An object that a cmdlet gives: the name of its .NET type, and its properties."""

    type: str
    properties: dict[str, object] = field(default_factory=dict)


ReportCallback = Callable[[StreamRecord], None]
