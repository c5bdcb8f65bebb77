"""Sessions with the emulated host, through a real PowerShell where there is one.

Environment variables: IMAGETOOL_LAB_ENGINE=powershell or python insists on one of the two engines;
IMAGETOOL_LAB_FAULTS="Add-WindowsPackage=0x800F0922" makes calls fail (faults.py); IMAGETOOL_LAB
names the state directory of the host (lasting_host.py); IMAGETOOL_LAB_NAMES gives directories other
names there (path_names.py).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from imagetool.contracts import Host
from imagetool.errors import HostFailed, WrongUsage
from imagetool.host.local import LocalProcess, find_powershell
from imagetool.host.session import Session
from imagetool.lab.configuration import read_lab_configuration
from imagetool.lab.emulated_host import EmulatedHost
from imagetool.lab.faults import FaultMatcher, FaultyHost, parse_faults
from imagetool.lab.host_client import Door, DoorSession
from imagetool.lab.host_server import HostServer
from imagetool.lab.path_filter import GENERATION_VARIABLE, engine_command
from imagetool.lab.path_names import NAMES_VARIABLE
from imagetool.lab.stand_in import StandIn
from imagetool.lab.stand_ins import write_modules

SESSION_VARIABLE = "IMAGETOOL_LAB_SESSION"
"""Tells the modules which session their calls belong to."""


def open_lab(
    emulated_host: EmulatedHost | None = None,
    faults: str | None = None,
    engine: str | None = None,
) -> Host:
    """Open a session with the lasting emulated host, or with one that lives in this process.

    `faults` and `engine` stand for the variables of that name; an engine may also be the path of a
    PowerShell. Raises HostFailed where
    PowerShell or the host does not start, WrongUsage for a mistake in a variable.
    """
    text = os.environ.get("IMAGETOOL_LAB_FAULTS", "") if faults is None else faults
    in_host, here = _split_faults(text)
    program = _find_engine(os.environ.get("IMAGETOOL_LAB_ENGINE", "") if engine is None else engine)
    with ExitStack() as stack:
        door, variables = connect_host(emulated_host, in_host, stack)
        stack.callback(door.close)
        if program is None:
            _refuse_names(variables.get(NAMES_VARIABLE, ""))
            lab: LabSession | StandIn = StandIn(door, variables.get(GENERATION_VARIABLE, ""))
        else:
            command = engine_command(program, variables)
            lab = LabSession(LocalProcess(command, variables))
        lab.at_end = stack.pop_all()
    return FaultyHost(lab, here) if here.pending else lab


class LabSession(Session):
    """A session with the emulated host through PowerShell."""

    at_end: ExitStack | None = None
    """Closed when the script has ended."""

    def close(self) -> None:
        """As Session.close."""
        try:
            super().close()
        finally:
            if self.at_end is not None:
                self.at_end.close()


def _find_engine(choice: str) -> str | None:
    """Return the path of the PowerShell to use, None for Python. Raises WrongUsage, HostFailed."""
    if os.path.isabs(choice):  # noqa: PTH117  # texts
        return choice
    if choice not in ("", "powershell", "python"):
        raise WrongUsage(f"IMAGETOOL_LAB_ENGINE is {choice!r}, neither powershell nor python")
    engine = None if choice == "python" else find_powershell()
    if engine is None and choice == "powershell":
        raise HostFailed(
            "IMAGETOOL_LAB_ENGINE insists on PowerShell, and there is none in PATH",
            hint="Install pwsh, or unset IMAGETOOL_LAB_ENGINE to let Python answer.",
        )
    return engine


def _refuse_names(names: str) -> None:
    if names:
        raise WrongUsage(
            f"{NAMES_VARIABLE} or lab.toml gives directories other names, which only PowerShell "
            "can use",
            hint="Install pwsh, or unset it.",
        )


def _split_faults(text: str) -> tuple[str, FaultMatcher]:
    """Split faults into those of cmdlets, for the host, and those of calls of this session."""
    parse_faults(text)
    parts = [part.strip() for part in text.split(",")]
    of_cmdlets = [part for part in parts if part[:1].isupper()]
    here = ",".join(part for part in parts if part not in of_cmdlets)
    return ",".join(of_cmdlets), parse_faults(here)


def connect_host(
    emulated_host: EmulatedHost | None, faults: str, stack: ExitStack, names: str = ""
) -> tuple[DoorSession, dict[str, str]]:
    """Connect with a host of this process, or for None with the one that lasts.

    Returns a session with it, and the variables with which PowerShell finds its modules and shows
    itself as the host that is configured; `names` stands for IMAGETOOL_LAB_NAMES. A host of this
    process is served until `stack` is closed. Raises HostFailed, CannotOpen, WrongUsage.
    """
    if emulated_host is None:
        from imagetool.lab.lasting_host import modules_directory, state_directory, with_host

        directory = state_directory()
        configuration = read_lab_configuration(directory)
        door = with_host(directory, lambda door: DoorSession(door, faults))
        modules = modules_directory(directory)
    else:
        configuration = emulated_host.configuration
        folder = Path(tempfile.mkdtemp(prefix="imagetool-lab-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server = HostServer(emulated_host)
        stack.callback(server.close)
        server.write_endpoint(folder / "endpoint")
        modules = folder / "modules"
        write_modules(modules, hyper_v=configuration.host.hyper_v)
        door = DoorSession(Door(server.port, server.secret), faults)
    before = os.environ.get("PSModulePath", "")  # noqa: SIM112  # its real name
    path = os.pathsep.join(filter(None, (str(modules), before)))
    named = [f"{item.name}={item.path}" for item in configuration.directories if item.name]
    given = names or os.environ.get(NAMES_VARIABLE, "")
    return door, {
        "PSModulePath": path,
        "IMAGETOOL_EMULATED": "1",
        SESSION_VARIABLE: door.name,
        NAMES_VARIABLE: ";".join(filter(None, [given, *named])),
        GENERATION_VARIABLE: configuration.host.generation,
    }
