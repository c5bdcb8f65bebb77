"""Sessions with hosts by name: this machine, the emulated host, or one over WinRM."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagetool.host.configuration import ConfiguredHost
    from imagetool.host.configuration.credentials import Credentials
    from imagetool.host.session import Session


def check_configuration() -> None:
    """Read both configuration files, if there are any. Raises WrongUsage for a mistake in one."""
    from imagetool.host.environment import is_configured

    if is_configured():
        from imagetool.host.configuration import read_configuration

        read_configuration()


def named_host(text: str | None = None, *, url_allowed: bool = True) -> ConfiguredHost:
    """Find the host of that name; for None the default one.

    `url_allowed` is False where a path follows (HOST:PATH). Raises WrongUsage, also for a mistake
    in a configuration file that does not concern this host.
    """
    from imagetool.host.configuration import read_configuration

    return read_configuration().host(text, url_allowed=url_allowed)


def servicing_host(text: str | None = None) -> ConfiguredHost:
    """Find the host that is to change an image; for None the user's default. Raises WrongUsage.

    The file in the current directory does not choose it.
    """
    from imagetool.host.configuration import read_configuration

    return read_configuration().servicing_host(text)


def session_opener(host: str | ConfiguredHost) -> Callable[[], Session]:
    """Return a function that opens a session: with `local`, `lab`, or a host over WinRM.

    Raises WrongUsage; the function raises HostFailed. A password is asked for once per host.
    """
    chosen = named_host(host) if isinstance(host, str) else host
    if chosen.remote:
        return lambda: _open_winrm(chosen)
    if chosen.name == "lab":
        from imagetool.lab import open_lab

        return open_lab
    from imagetool.host.local import open_local

    return open_local


def _open_winrm(host: ConfiguredHost) -> Session:
    from imagetool.host.winrm import open_winrm

    return open_winrm(host, lambda: _credentials(host))


@cache
def _credentials(host: ConfiguredHost) -> Credentials:
    from imagetool.host.configuration.credentials import credentials_for

    return credentials_for(host)
