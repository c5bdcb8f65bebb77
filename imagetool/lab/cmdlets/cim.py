"""The cmdlets of the module CimCmdlets: what the session's script asks of the host's processes."""

from __future__ import annotations

from imagetool.lab.cmdlet import CmdletFailure, CmdletResult, ReportCallback
from imagetool.lab.cmdlets import Parameters, cmdlet, result
from imagetool.lab.emulated_host import EmulatedHost

_DISMHOST = "dismhost.exe"


@cmdlet("Get-CimInstance")
def get_cim_instance(
    host: EmulatedHost, parameters: Parameters, _: ReportCallback
) -> list[CmdletResult]:
    """List the processes of DISM; nothing else is asked."""
    if (parameters.get("ClassName"), parameters.get("Filter")) != (
        "Win32_Process",
        f"Name = '{_DISMHOST}'",
    ):
        raise CmdletFailure("Invalid class", hresult=0x80041010, error_id="HRESULT 0x80041010")
    found = []
    for process in list(host.servicing.values()):
        process.calls -= 1
        if process.calls < 0:
            del host.servicing[process.number]
            continue
        known: Parameters = {
            "Name": _DISMHOST,
            "ProcessId": process.number,
            "ParentProcessId": process.parent,
        }
        found.append(result("Get-CimInstance", known))
    return found
