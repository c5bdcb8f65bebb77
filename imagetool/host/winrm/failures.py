"""Errors of connections to a host, told apart, each a sentence with a hint."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from imagetool.errors import HostFailed
from imagetool.host.transport import ConnectionBroke

if TYPE_CHECKING:
    from imagetool.host.configuration import ConfiguredHost

_AUTHENTICATION = ("spnego", "requests_credssp", "requests_ntlm", "winrm.vendor", "kerberos")

_SHELL_GONE = (
    "the shell there is gone",
    "Its idle timeout is over, or somebody ended it; what was mounted is dismounted by its lease.",
)
_FAULTS = {
    5: (
        "the host refuses this account",
        "A remote shell needs membership of the host's Administrators, and for local accounts "
        "LocalAccountTokenFilterPolicy.",
    ),
    0x8033805B: _SHELL_GONE,
    0x80338012: _SHELL_GONE,
    995: _SHELL_GONE,
    0x803381A5: ("the account has too many shells there", "End those it no longer needs."),
    0x803381A6: ("the shell's quota of operations is used up", "Begin anew."),
    0x80338048: ("a message is larger than the host allows", "Raise MaxEnvelopeSizekb there."),
}


def fault_error(host: ConfiguredHost, code: int | None, reason: str) -> HostFailed:
    """Return the error for a WS-Management fault, by its code ([MS-WSMV] and winerror.h)."""
    text = " ".join(reason.split())[:300]
    shown = "" if code is None else f" (0x{code & 0xFFFFFFFF:08X})"
    sentence, hint = _FAULTS.get(code or 0, (f"the host refuses: {text}", ""))
    return HostFailed(f"{host.name}: {sentence}{shown}", hint=hint)


def status_error(host: ConfiguredHost, status: int, connected_before: bool) -> HostFailed:
    """Return the error for an HTTP status without a fault in its body."""
    name, url = host.name, host.url
    if status == 403:
        return HostFailed(
            f"{name}: the host refuses this account (HTTP 403)",
            hint="A remote shell needs membership of the host's Administrators.",
        )
    if status in (404, 405):
        return HostFailed(
            f"{name}: there is no WinRM at {url} (HTTP {status})",
            hint="WinRM listens at /wsman, on port 5986 (https) or 5985 (http).",
        )
    if status in (400, 502, 503, 504) and connected_before:
        # A new socket with the encryption context of the old one is answered with 400.
        return ConnectionBroke(f"{name}: the host lost the connection (HTTP {status})")
    return HostFailed(
        f"{name}: the host answered with HTTP {status}",
        hint="Look whether the WinRM service runs there (winrm quickconfig), and whether a "
        "proxy lies between.",
    )


def authentication_error(host: ConfiguredHost, error: Exception | None = None) -> HostFailed:
    """Return the error for rejected credentials."""
    said = "401" if error is None else _short_reason(" ".join(str(error).split()))
    if host.transport == "kerberos":
        return HostFailed(
            f"{host.name}: Kerberos gave no access ({said})",
            hint="A ticket must be there (kinit, klist), the clocks agree, and the URL name "
            "the host as its service HTTP/NAME is called.",
        )
    return HostFailed(
        f"{host.name}: the host refuses the account with {host.transport} authentication ({said})",
        hint="Check user (DOMAIN\\name or name@domain) and password, and which kinds of "
        "authentication its WinRM service allows (winrm get winrm/config/service/auth).",
    )


def connection_error(host: ConfiguredHost, error: Exception, connected_before: bool) -> HostFailed:
    """Return the error for a failure below HTTP; one to retry only after an earlier success."""
    import requests
    from urllib3.exceptions import NameResolutionError, NewConnectionError

    if type(error).__module__.startswith(_AUTHENTICATION):
        return authentication_error(host, error)
    name, url = host.name, host.url
    inner = error.args[0] if error.args else error
    reason = getattr(inner, "reason", None) or inner
    if isinstance(error, requests.exceptions.SSLError):
        return _tls_error(host, str(reason))
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return HostFailed(
            f"{name}: {url} points elsewhere, which is not followed",
            hint="Give the URL of the WinRM service itself.",
        )
    if connected_before:
        return ConnectionBroke(
            f"{name}: the connection broke, and could not be made again: {_short_reason(reason)}",
            hint="What was mounted there is dismounted when the lease ends, in three minutes.",
        )
    if isinstance(reason, NameResolutionError):
        return HostFailed(f"{name}: there is no host of that name", hint="Check the spelling.")
    if isinstance(reason, NewConnectionError) or isinstance(
        error, requests.exceptions.ConnectTimeout
    ):
        return HostFailed(
            f"{name}: nothing listens at {url}: {_short_reason(reason)}",
            hint="Enable WinRM there (winrm quickconfig -transport:https), open its port in the "
            "firewall, and check the name.",
        )
    if isinstance(error, requests.exceptions.ReadTimeout):
        return HostFailed(
            f"{name}: something listens at {url}, and does not answer",
            hint="Look whether it is WinRM, and whether the host is overloaded.",
        )
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return HostFailed(f"{name}: {url} is no URL of a host")
    return ConnectionBroke(
        f"{name}: the connection broke before the host answered: {_short_reason(reason)}",
        hint="Is it a WinRM port, and is http or https right?",
    )


def _tls_error(host: ConfiguredHost, said: str) -> HostFailed:
    name = host.name
    if "CERTIFICATE_VERIFY_FAILED" not in said:
        return HostFailed(
            f"{name}: there is no TLS at {host.url}, or none that this machine speaks",
            hint="Is its WinRM on http (port 5985)? Then give that as its url.",
        )
    if "expired" in said or "not yet valid" in said:
        return HostFailed(
            f"{name}: its certificate is not trusted: it is expired or not yet valid",
            hint="Give the host a new one, and compare the clocks.",
        )
    if "ismatch" in said or "not valid for" in said:
        return HostFailed(
            f"{name}: its certificate is not trusted: it is for another name than that of "
            f"{host.url}",
            hint="Give the name in the certificate as url, or the host one for this name.",
        )
    return HostFailed(
        f"{name}: its certificate is not trusted: nobody who is trusted here signed it",
        hint="Name the certificate that signed it in the configuration (certificate = FILE).",
    )


def protocol_error(host: ConfiguredHost, error: Exception) -> HostFailed:
    """Return the error for other exceptions of the libraries: malformed answers, as a rule."""
    if type(error).__module__.startswith(_AUTHENTICATION):
        return authentication_error(host, error)
    if isinstance(error, PermissionError):  # requests_ntlm got no challenge
        return authentication_error(host)
    if isinstance(error, UnicodeError | struct.error):
        # Their text shows the value that could not be encoded: it may be the password.
        return HostFailed(
            f"{host.name}: user or password cannot be sent with {host.transport} authentication",
            hint="They are too long, or hold characters that it has no form for.",
        )
    if isinstance(error, OSError):
        return ConnectionBroke(f"{host.name}: the connection broke: {_short_reason(error)}")
    return ConnectionBroke(
        f"{host.name}: what answers at {host.url} is no WinRM, or the answer was cut off "
        f"({type(error).__name__})",
        hint="Check port and path: 5986 for https, 5985 for http, /wsman.",
    )


def _short_reason(reason: object) -> str:
    """Return the message of the innermost exception, without the names of its wrappers."""
    while isinstance(reason, BaseException):
        nested = [item for item in reason.args if isinstance(item, BaseException)]
        if not nested:
            break
        reason = nested[-1]
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    text = str(reason)
    text = text.rpartition(": ")[2] if ": " in text else text
    return "".join(character for character in text if character.isprintable())[:120]
