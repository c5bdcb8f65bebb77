"""A Hyper-V host: cmdlets and files, through one PowerShell session."""

from imagetool.host.answers import CmdletFailed, Event
from imagetool.host.session import Session

__all__ = ["CmdletFailed", "Event", "Session"]
