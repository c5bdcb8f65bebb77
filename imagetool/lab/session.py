"""A session with the emulated host, through a real PowerShell where there is one.

Environment variables: IMAGETOOL_LAB_ENGINE=powershell or python insists on one of the two engines;
IMAGETOOL_LAB_FAULTS="Add-WindowsPackage=0x800F0922" makes cmdlets fail (several are
separated by commas).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from imagetool.errors import HostFailed, WrongUsage
from imagetool.host.local import LocalProcess, find_powershell
from imagetool.host.session import Session
from imagetool.host.transport import Transport
from imagetool.lab.cmdlet import CmdletFailure
from imagetool.lab.cmdlet_server import CmdletServer
from imagetool.lab.emulated_host import EmulatedHost
from imagetool.lab.in_process import InProcessTransport
from imagetool.lab.stand_ins import write_modules


def open_lab(emulated_host: EmulatedHost | None = None) -> LabSession:
    """Open a session with the emulated host. Raises HostFailed where PowerShell does not start."""
    emulated_host = emulated_host or EmulatedHost(
        parse_faults(os.environ.get("IMAGETOOL_LAB_FAULTS", ""))
    )
    engine_choice = os.environ.get("IMAGETOOL_LAB_ENGINE", "")
    if engine_choice not in ("", "powershell", "python"):
        raise WrongUsage(
            f"IMAGETOOL_LAB_ENGINE is {engine_choice!r}, neither powershell nor python"
        )
    engine = None if engine_choice == "python" else find_powershell()
    if engine is None and engine_choice == "powershell":
        raise HostFailed(
            "IMAGETOOL_LAB_ENGINE insists on PowerShell, and there is none in PATH",
            hint="Install pwsh, or unset IMAGETOOL_LAB_ENGINE to let Python answer.",
        )
    return LabSession(emulated_host, engine)


class LabSession(Session):
    """A session whose host is emulated; closing it ends the emulation too."""

    def __init__(self, emulated_host: EmulatedHost, engine: str | None) -> None:
        self.emulated_host = emulated_host
        self._folder = Path(tempfile.mkdtemp(prefix="imagetool-lab-"))
        self._cmdlet_server: CmdletServer | None = None
        try:
            super().__init__(self._start(engine))
        except BaseException:  # an interruption, too
            self._clean()
            raise

    def _start(self, engine: str | None) -> Transport:
        if engine is None:
            return InProcessTransport(self.emulated_host)
        self._cmdlet_server = CmdletServer(self.emulated_host)
        self._cmdlet_server.write_endpoint(self._folder / "endpoint")
        write_modules(self._folder)
        before = os.environ.get("PSModulePath", "")  # noqa: SIM112  # its real name
        modules = os.pathsep.join(filter(None, (str(self._folder), before)))
        return LocalProcess(engine, {"PSModulePath": modules, "IMAGETOOL_EMULATED": "1"})

    def _clean(self) -> None:
        if self._cmdlet_server is not None:
            self._cmdlet_server.close()
            self._cmdlet_server = None
        self.emulated_host.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """End the script, which dismounts what it mounted, then the emulation."""
        super().close()
        self._clean()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def parse_faults(text: str) -> Mapping[str, CmdletFailure]:
    """Parse failures by cmdlet from a text like "Set-Disk=0x80070005,…". Raises WrongUsage."""
    faults = {}
    for part in filter(None, text.split(",")):
        name, _, code = part.strip().partition("=")
        try:
            hresult = int(code, 16)
        except ValueError:
            raise WrongUsage(f"IMAGETOOL_LAB_FAULTS: {part!r} is no NAME=0xHRESULT") from None
        faults[name] = CmdletFailure("A failure that was asked for.", hresult=hresult)
    return faults
