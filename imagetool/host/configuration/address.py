"""Hosts and their addresses: names and URLs as people write them, resolved to WinRM URLs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Literal, get_args
from urllib.parse import SplitResult, urlsplit

from imagetool.errors import WrongUsage

AuthenticationMethod = Literal["ntlm", "kerberos", "credssp", "basic", "certificate"]
AUTHENTICATION_METHODS: tuple[AuthenticationMethod, ...] = get_args(AuthenticationMethod)
BUILT_IN_HOSTS = ("local", "lab")
PathMap = tuple[tuple[str, str], ...]

WINRM_PORTS = {"https": 5986, "http": 5985}
"""WinRM's default ports, by URL scheme."""

WINRM_PATH = "/wsman"
"""The path of WinRM's URL, the same on every host."""

_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_MAX_NAME_CHARACTERS = 253
_HINT = (
    "A host is local, lab, a name from the configuration, a DNS name, an address, or a URL like "
    "https://hv01:5986."
)


@dataclass(frozen=True, slots=True)
class ConfiguredHost:
    """A host, with all that is needed to reach it but a password. Empty text: not given."""

    name: str
    """Its name on the command line or in the configuration."""
    url: str = ""
    """The URL of its WinRM, with port and path; empty for `local` and `lab`."""
    transport: AuthenticationMethod = "ntlm"
    user: str = ""
    certificate: str = ""
    """A PEM file with the certificate authority to trust for this host."""
    client_certificate: str = ""
    client_key: str = ""
    validate: bool = True
    """True to validate the host's certificate."""
    delegate: bool = False
    """True to delegate the Kerberos ticket, so that the host can reach shares with it."""
    script: str = ""
    """The path of an installed session.ps1 on the host; empty: the script is sent."""
    script_sha256: str = ""
    """The SHA-256 of that file, where it differs from the package's by a signature."""
    dism_module: str = ""
    """The path of another PowerShell module Dism on the host; empty: that of its Windows."""
    proxy: str = ""
    """The URL of a proxy; empty: none, even if the environment names one."""
    paths: PathMap = ()
    """Directories on this machine and on the host; those of the user's file first."""
    named_by_user: bool = True
    """True if the command line or the user's file names it; False if only ./imagetool.toml does."""

    @property
    def remote(self) -> bool:
        """True if the host is reached over WinRM."""
        return bool(self.url)

    @property
    def origin(self) -> str:
        """Scheme, host and port of its URL, under which its password is stored."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}" if self.url else self.name


def is_url(text: str) -> bool:
    """True if a text is meant as a URL, valid or not."""
    return "/" in text


def winrm_url(text: str) -> str:
    """Return the WinRM URL of a DNS name, an IP address or a URL.

    Raises WrongUsage, which never shows a text that may hold a password.
    """
    if "@" in text:
        raise WrongUsage(
            "a host is named without a user or a password",
            hint="The user comes from IMAGETOOL_USER or the configuration, the password never from "
            "the command line.",
        )
    if not is_url(text):
        return f"https://{_bracketed(parse_address(text))}:{WINRM_PORTS['https']}{WINRM_PATH}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise WrongUsage(f"{text!r} is no URL of a host: {error}", hint=_HINT) from None
    _check_url(text, parts)
    scheme = parts.scheme.lower()
    name = _bracketed(parse_address(parts.hostname or ""))
    return f"{scheme}://{name}:{WINRM_PORTS[scheme] if port is None else port}{WINRM_PATH}"


def _check_url(text: str, parts: SplitResult) -> None:
    if parts.scheme.lower() not in WINRM_PORTS:
        raise WrongUsage(
            f"{text!r} begins with neither https:// nor http://",
            hint="WinRM speaks https on port 5986, or http on port 5985.",
        )
    if parts.path.rstrip("/").lower() not in ("", WINRM_PATH) or parts.query or parts.fragment:
        raise WrongUsage(
            f"{text!r} goes on behind the host and its port",
            hint=f"WinRM's path is {WINRM_PATH}, and need not be written.",
        )
    if parts.port == 0:
        raise WrongUsage(f"{text!r} names port 0", hint="5986 is usual for https, 5985 for http.")


def parse_address(text: str) -> str:
    """Return a DNS name in lower case, or an IP address in short form. Raises WrongUsage."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        if "%" in bare:
            raise ValueError
        return str(ip_address(bare))
    except ValueError:
        pass
    if len(text) == 1:
        raise WrongUsage(
            f"{text!r}: a single letter is a drive, not a host", hint="Write its full DNS name."
        )
    if re.fullmatch(r"[^:/]+:\d+", text):
        raise WrongUsage(f"{text!r}: a port is named in a URL", hint=f"Write it as https://{text}.")
    last = text.rpartition(".")[2]
    if _NAME.fullmatch(text) is None or len(text) > _MAX_NAME_CHARACTERS or last.isdigit():
        raise WrongUsage(f"{text!r} is no name of a host", hint=_HINT)
    return text.lower()


def _bracketed(name: str) -> str:
    try:
        return f"[{name}]" if isinstance(ip_address(name), IPv6Address) else name
    except ValueError:
        return name
