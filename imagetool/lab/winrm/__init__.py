"""A WinRM endpoint on loopback, in front of the emulated host: [MS-WSMV] and DSP0226 over HTTP."""

from imagetool.lab.winrm.endpoint import Endpoint
from imagetool.lab.winrm.faults import Faults
from imagetool.lab.winrm.limits import Limits, read_limits
from imagetool.lab.winrm.served import Served

__all__ = ["Endpoint", "Faults", "Limits", "Served", "read_limits"]
