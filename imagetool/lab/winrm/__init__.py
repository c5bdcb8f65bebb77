"""A WinRM endpoint on loopback, in front of the emulated host: [MS-WSMV] and DSP0226 over HTTP."""

from imagetool.lab.winrm.endpoint import Endpoint
from imagetool.lab.winrm.fault_injection import FaultInjector
from imagetool.lab.winrm.limits import Limits, read_limits
from imagetool.lab.winrm.served_request import ServedRequest

__all__ = ["Endpoint", "FaultInjector", "Limits", "ServedRequest", "read_limits"]
