"""An operating system in an image, whichever it is."""

from __future__ import annotations

from typing import Protocol

from imagetool.package.identity import Version


class Guest(Protocol):
    """An operating system in an image: what it calls itself, and what was read of it."""

    @property
    def name(self) -> str:
        """The product: Windows Server 2012 R2 Standard, Debian GNU/Linux 12 (bookworm)."""

    @property
    def version(self) -> Version | str:
        """The version: of Windows major, minor, build, UBR; of Linux VERSION_ID, or empty."""

    @property
    def architecture(self) -> str:
        """amd64, x86, arm64 or ia64; empty where unknown."""

    @property
    def evidence(self) -> object:
        """Everything that a verdict on this guest follows from."""
