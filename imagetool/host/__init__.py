"""A Hyper-V host: cmdlets and files, through one PowerShell session."""

from imagetool.host.session import CmdletFailed, Event, Session

__all__ = ["CmdletFailed", "Event", "Session"]
