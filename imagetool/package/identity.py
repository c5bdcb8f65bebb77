"""Versions and component identities, as Windows writes them."""

from __future__ import annotations

from typing import NamedTuple

INTEGRATION_PACKAGE_NAMES = (
    "Microsoft-Hyper-V-Integration-Services-Package",
    "Microsoft-Hyper-V-Integration-Services-Package-2",
)
"""The names of the packages of integration services: for Windows 7 and older, and from 8 on."""


class Version(NamedTuple):
    """Four numbers of 16 bits, compared as numbers: 6.3.9600.18692."""

    major: int
    minor: int
    build: int = 0
    revision: int = 0

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.build}.{self.revision}"

    @classmethod
    def parse(cls, text: str) -> Version | None:
        """Parse two to four numbers with dots between them; None for any other text."""
        parts = text.rstrip("\0").strip().split(".")
        if not 2 <= len(parts) <= 4 or not all(map(_is_number, parts)):
            return None
        numbers = [int(part) for part in parts]
        return cls(*numbers) if max(numbers) <= 0xFFFF else None

    @classmethod
    def from_number(cls, number: int) -> Version:
        """The version in a 64-bit number whose highest 16 bits are the major version."""
        return cls(*((number >> shift) & 0xFFFF for shift in (48, 32, 16, 0)))


class Identity(NamedTuple):
    """An assembly identity: name, public key token, architecture, language, version.

    `architecture` is amd64, x86, arm64, ia64, wow64 or neutral; `language` is empty for neutral.
    """

    name: str
    public_key_token: str
    architecture: str
    language: str
    version: Version

    def __str__(self) -> str:
        return "~".join(str(field) for field in self)

    @classmethod
    def parse(cls, text: str) -> Identity | None:
        """Parse `name~publicKeyToken~architecture~language~version`; None for any other text."""
        parts = text.split("~")
        version = Version.parse(parts[4]) if len(parts) == 5 else None
        if version is None or not parts[0]:
            return None
        return cls(parts[0], parts[1], parts[2].lower(), parts[3], version)


def _is_number(text: str) -> bool:
    """True for one to five digits; Python's own test would take any script's."""
    return len(text) <= 5 and text.isascii() and text.isdigit()
