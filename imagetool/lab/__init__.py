"""An emulated Hyper-V host, for rehearsals and tests."""

from imagetool.lab.boot import BootResult, boot
from imagetool.lab.session import LabSession, open_lab

__all__ = ["BootResult", "LabSession", "boot", "open_lab"]
