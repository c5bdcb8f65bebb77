"""A Hyper-V host: cmdlets and files, through one PowerShell session."""

from imagetool.contracts import Event
from imagetool.host.answers import CmdletFailed
from imagetool.host.session import Session

__all__ = ["CmdletFailed", "Event", "Session"]
