"""An emulated Hyper-V host, for rehearsals and tests."""

from imagetool.lab.boot import Boot, boot
from imagetool.lab.session import LabSession, open_lab

__all__ = ["Boot", "LabSession", "boot", "open_lab"]
