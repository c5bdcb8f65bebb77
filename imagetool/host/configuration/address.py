"""A host, and where it is: what people write, and the URL that it means."""

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
"""WinRM's port by scheme."""

WINRM_PATH = "/wsman"
"""WinRM's path, the same everywhere."""

_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_MAX_NAME_CHARACTERS = 253
_HINT = (
    "A host is local, lab, a name from the configuration, a DNS name, an address, or a URL like "
    "https://hv01:5986."
)


@dataclass(frozen=True, slots=True)
class Host:
    """A host, and all that is needed to reach it but a password. Empty text: not given."""

    name: str
    """What the command line or the configuration calls it."""
    url: str = ""
    """Of WinRM, with its port and path; empty for `local` and `lab`."""
    transport: AuthenticationMethod = "ntlm"
    user: str = ""
    certificate: str = ""
    """A PEM file: what signed the host's certificate, trusted for this host."""
    client_certificate: str = ""
    client_key: str = ""
    validate: bool = True
    """Whether the host's certificate is validated."""
    delegate: bool = False
    """Whether Kerberos hands the ticket on, so that the host reaches shares with it."""
    script: str = ""
    """Where session.ps1 is installed on the host."""
    script_sha256: str = ""
    """The SHA-256 of that file, where a signature made it another one."""
    proxy: str = ""
    """The URL of a proxy; without it none is used, whatever the environment says."""
    paths: PathMap = ()
    """Directories here and there; those of the user's own file first."""
    named_by_user: bool = True
    """Whether the command line or the user's own file names it, not only ./imagetool.toml."""

    @property
    def remote(self) -> bool:
        """Whether it is reached over WinRM."""
        return bool(self.url)

    @property
    def origin(self) -> str:
        """Scheme, host and port of its URL: what a password belongs to."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}" if self.url else self.name


def is_url(text: str) -> bool:
    """Whether a text is meant as a URL, a right one or not."""
    return "/" in text


def winrm_url(text: str) -> str:
    """The URL of WinRM that a DNS name, an IP address or a URL means.

    Raises WrongUsage, and shows nothing of a URL in which a password may stand.
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
    """A DNS name in lower case, or an IP address in its shortest form. Raises WrongUsage."""
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
