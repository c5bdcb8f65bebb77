"""A host over WinRM: a shell with PowerShell in it (shell.py), by WS-Management (wsman.py)."""

from imagetool.host.winrm.shell import WinRMShell, open_winrm

__all__ = ["WinRMShell", "open_winrm"]
