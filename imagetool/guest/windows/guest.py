"""A Windows guest: its facts and the evidence about its integration components."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from imagetool.guest.windows.boot import boot_faults, boot_warnings
from imagetool.guest.windows.components import IntegrationComponents, read_integration_components
from imagetool.guest.windows.facts import WindowsFacts, read_windows_facts
from imagetool.guest.windows.installation import WindowsInstallation
from imagetool.package.identity import Version


class WindowsGuest(NamedTuple):
    """A Windows in an image (imagetool.guest.guest.Guest)."""

    facts: WindowsFacts
    evidence: IntegrationComponents

    @property
    def name(self) -> str:
        """The product: Windows Server 2012 R2 Standard."""
        return self.facts.product

    @property
    def version(self) -> Version:
        """The version: major, minor, build, UBR."""
        return self.facts.version

    @property
    def architecture(self) -> str:
        """amd64, x86, arm64 or ia64; empty where unknown."""
        return self.facts.architecture

    @property
    def boot_faults(self) -> tuple[str, ...]:
        """The reasons for which it does not start on Hyper-V: those of the verdict `disabled`."""
        return boot_faults(self.facts, self.evidence)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may hinder the guest's boot on Hyper-V or is unusual, and decides no verdict."""
        oddity = self.evidence.recorded_oddity
        return (*boot_warnings(self.evidence), *([oddity] if oddity else []))


def read_windows_guest(windows: WindowsInstallation) -> WindowsGuest:
    """Read the facts and the evidence. Raises Corrupt."""
    return WindowsGuest(
        *windows.image.gather(
            partial(read_windows_facts, windows), partial(read_integration_components, windows)
        )
    )
