"""Sessions with hosts by name: this machine, the emulated host, or one over WinRM."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING

from imagetool.errors import HostFailed

if TYPE_CHECKING:
    from imagetool.contracts import Files, Host
    from imagetool.host.configuration import ConfiguredHost
    from imagetool.host.configuration.credentials import Credentials
    from imagetool.host.reading import HostFiles
    from imagetool.host.session import Session
    from imagetool.location import Location


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


def session_opener(host: str | ConfiguredHost) -> Callable[[], Host]:
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


def servicing_opener(host: ConfiguredHost) -> Callable[[], Host]:
    """As session_opener, for sessions that service images: with the DISM that is configured."""
    from imagetool.host.answers import CmdletFailed

    opened = session_opener(host)
    if not host.dism_module:
        return opened

    def with_module() -> Host:
        session = opened()
        try:
            session.operate("import-module", path=host.dism_module)
        except CmdletFailed as error:
            session.close()
            raise HostFailed(
                f"{host.name}: the module {host.dism_module} cannot be imported there: "
                f"{error.host_message}",
                hint="Correct dism_module in the configuration, or leave it out.",
            ) from None
        except BaseException:  # an interruption, too
            session.close()
            raise
        return session

    return with_module


def _open_winrm(host: ConfiguredHost) -> Session:
    from imagetool.host.winrm import open_winrm

    return open_winrm(host, lambda: _credentials(host))


@cache
def _credentials(host: ConfiguredHost) -> Credentials:
    from imagetool.host.configuration.credentials import credentials_for

    return credentials_for(host)


class OpenHosts:
    """The sessions that images are read through, one per host, opened on first use.

    A context manager, which closes them at its end.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._files: dict[str, HostFiles | HostFailed] = {}

    def files(self, host: str) -> Files:
        """Return the files of a host. Raises HostFailed where it cannot be reached, WrongUsage."""
        key = host.lower()
        files = self._files.get(key)
        if files is None:
            files = self._files[key] = self._connect(host)
        if isinstance(files, HostFailed):
            raise files
        return files

    def _connect(self, host: str) -> HostFiles | HostFailed:
        from imagetool.host.reading import HostFiles

        chosen = named_host(host, url_allowed=False)
        try:
            session = self._stack.enter_context(session_opener(chosen)())
        except HostFailed as error:
            return error
        return HostFiles(session, host, lazy_close=True)

    def close(self) -> None:
        """Close all sessions."""
        self._stack.close()

    def __enter__(self) -> OpenHosts:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Connection:
    """A session with one host, and the images that lie there. A context manager.

    The session outlives the locations that it gives: they can be read until it is closed.
    """

    def __init__(self, host: ConfiguredHost) -> None:
        from imagetool.host.reading import HostFiles

        self.host = host
        self.session: Host = session_opener(host)()
        """The session itself, for cmdlets and file operations."""
        self._files = HostFiles(self.session, host.name, lazy_close=True)

    @property
    def name(self) -> str:
        """The name of the host, as it was given."""
        return self.host.name

    def location(self, path: str) -> Location:
        """Return the location of a path on the host."""
        from imagetool.location import Location

        return Location(path, self.name, lambda host: self._files)

    def find(self, *patterns: str, recursive: bool = False) -> tuple[Location, ...]:
        """Find the images that paths, patterns and directories on the host stand for, each once.

        Raises CannotOpen where nothing fits, or a directory cannot be listed; HostFailed,
        WrongUsage.
        """
        from imagetool.arguments import check_flag, check_paths
        from imagetool.errors import WrongUsage

        if not patterns:
            raise WrongUsage("no path is given", hint="Name a path, a pattern or a directory.")
        deep = check_flag("recursive", recursive)
        found: dict[Location, None] = {}
        for path in check_paths("patterns", patterns):
            for location in self.location(path).find(recursive=deep):
                if location.failure is not None:
                    raise location.failure
                found[location] = None
        return tuple(found)

    def close(self) -> None:
        """Close the session."""
        self.session.close()

    def __repr__(self) -> str:
        return f"Connection({self.name!r})"

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
