"""What a Windows installation says of itself."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from imagetool.errors import Corrupt
from imagetool.guest.installation import Installation
from imagetool.package.identity import Version

_CURRENT = "Microsoft\\Windows NT\\CurrentVersion"
_STATE = "Microsoft\\Windows\\CurrentVersion\\Setup\\State"
_PARAMETERS = "Microsoft\\Virtual Machine\\Guest\\Parameters"
_SHA2 = "Microsoft\\Windows\\CurrentVersion\\Servicing\\Codesigning\\SHA2"
_WINDOWS_8 = Version(6, 2)
_LAB = "imagetool\\Lab"

_ARCHITECTURES = {"AMD64": "amd64", "X86": "x86", "ARM64": "arm64", "IA64": "ia64"}


class HostedOn(NamedTuple):
    """What the last Hyper-V host told the guest of itself, and when."""

    host: str
    virtual_machine: str
    told: datetime


class WindowsFacts(NamedTuple):
    """Product, version, state. `version` is that of the kernel: major, minor, build, UBR."""

    product: str
    edition: str
    version: Version
    architecture: str
    """amd64, x86, arm64 or ia64; empty where the image does not say."""
    computer_name: str
    image_state: str
    """ImageState of the setup, such as IMAGE_STATE_COMPLETE."""
    hosted_on: HostedOn | None
    marks: tuple[tuple[str, str], ...]
    """What an emulated host wrote into this image: (what, when and which)."""

    @property
    def generalised(self) -> bool:
        """Whether sysprep has made a template of it, which a boot would use up."""
        return self.image_state.startswith("IMAGE_STATE_GENERALIZE_RESEAL")

    @property
    def carries_its_own(self) -> bool:
        """Whether integration components are part of the system: Windows 10, Server 2016, later."""
        return self.version.major >= 10


def read_facts(windows: Installation) -> WindowsFacts:
    """The facts. Raises Corrupt where the hives lack what every Windows has."""
    software, system = windows.software, windows.system
    current = software.find(_CURRENT)
    if current is None:
        raise Corrupt(
            f"{software.name}: there is no key {_CURRENT}",
            hint="The hive is damaged, or the installation never finished.",
        )
    control = system.find(f"{windows.control_set}\\Control")
    names = control.find("ComputerName\\ComputerName") if control else None
    environment = control.find("Session Manager\\Environment") if control else None
    processor = environment.text("PROCESSOR_ARCHITECTURE") if environment else ""
    state = software.find(_STATE)
    marks = software.find(_LAB)
    return WindowsFacts(
        product=windows.product,
        edition=current.text("EditionID"),
        version=windows.version,
        architecture=_ARCHITECTURES.get(processor.upper(), ""),
        computer_name=names.text("ComputerName") if names else "",
        image_state=state.text("ImageState") if state else "",
        hosted_on=_hosted_on(windows),
        marks=tuple((value.name, value.text()) for value in marks.values()) if marks else (),
    )


def accepts_sha2(windows: Installation) -> bool:
    """Whether the guest believes signatures made with SHA-2 alone: Windows 7 only when updated."""
    if windows.version >= _WINDOWS_8:
        return True
    key = windows.software.find(_SHA2)
    return key is not None and bool(key.number("SHA2-Codesigning-Support"))


def _hosted_on(windows: Installation) -> HostedOn | None:
    key = windows.software.find(_PARAMETERS)
    if key is None:
        return None
    host = key.text("PhysicalHostNameFullyQualified") or key.text("HostName")
    machine = key.text("VirtualMachineName")
    return HostedOn(host, machine, key.last_written) if host or machine else None
