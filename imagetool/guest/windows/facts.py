"""Facts about a Windows installation, from its registry."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from imagetool.guest.windows.installation import WindowsInstallation
from imagetool.package.identity import Version

_SETUP_STATE_KEY = "Microsoft\\Windows\\CurrentVersion\\Setup\\State"
_GUEST_PARAMETERS_KEY = "Microsoft\\Virtual Machine\\Guest\\Parameters"
_SHA2_KEY = "Microsoft\\Windows\\CurrentVersion\\Servicing\\Codesigning\\SHA2"
_WINDOWS_8 = Version(6, 2)
_EMULATION_KEY = "imagetool\\Lab"

_ARCHITECTURES = {"AMD64": "amd64", "X86": "x86", "ARM64": "arm64", "IA64": "ia64"}


class LastHost(NamedTuple):
    """The Hyper-V host that the guest last ran on, as the host reported itself."""

    host: str
    virtual_machine: str
    reported_at: datetime


class WindowsFacts(NamedTuple):
    """Product, version and state. `version` is major, minor, build, UBR."""

    product: str
    edition: str
    version: Version
    architecture: str
    """amd64, x86, arm64 or ia64; empty where unknown."""
    computer_name: str
    image_state: str
    """ImageState of the setup, such as IMAGE_STATE_COMPLETE."""
    last_host: LastHost | None
    emulation_marks: tuple[tuple[str, str], ...]
    """Changes that an emulated host made to this image: (change, time and details)."""

    @property
    def generalised(self) -> bool:
        """True if sysprep has generalised it: the first boot uses the template up."""
        return self.image_state.startswith("IMAGE_STATE_GENERALIZE_RESEAL")

    @property
    def has_in_box_components(self) -> bool:
        """True if Windows itself contains the components: Windows 10, Server 2016 and later."""
        return self.version.major >= 10


def read_windows_facts(windows: WindowsInstallation) -> WindowsFacts:
    """Read the facts. Raises Corrupt where the hives lack a key that every Windows has."""
    software, system = windows.software, windows.system
    current = windows.current_version()
    control = system.find(f"{windows.control_set}\\Control")
    names = control.find("ComputerName\\ComputerName") if control else None
    environment = control.find("Session Manager\\Environment") if control else None
    processor = environment.text("PROCESSOR_ARCHITECTURE") if environment else ""
    state = software.find(_SETUP_STATE_KEY)
    marks = software.find(_EMULATION_KEY)
    return WindowsFacts(
        product=windows.product,
        edition=current.text("EditionID"),
        version=windows.version,
        architecture=_ARCHITECTURES.get(processor.upper(), ""),
        computer_name=names.text("ComputerName") if names else "",
        image_state=state.text("ImageState") if state else "",
        last_host=_last_host(windows),
        emulation_marks=tuple((value.name, value.text()) for value in marks.values())
        if marks
        else (),
    )


def accepts_sha2(windows: WindowsInstallation) -> bool:
    """True if the guest accepts signatures with SHA-2 alone: Windows 7 only with its update."""
    if windows.version >= _WINDOWS_8:
        return True
    key = windows.software.find(_SHA2_KEY)
    return key is not None and bool(key.number("SHA2-Codesigning-Support"))


def _last_host(windows: WindowsInstallation) -> LastHost | None:
    key = windows.software.find(_GUEST_PARAMETERS_KEY)
    if key is None:
        return None
    host = key.text("PhysicalHostNameFullyQualified") or key.text("HostName")
    machine = key.text("VirtualMachineName")
    return LastHost(host, machine, key.last_written) if host or machine else None
