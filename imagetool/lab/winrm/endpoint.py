"""A WinRM endpoint: the emulated host, its user, its certificate, and the HTTP server."""

from __future__ import annotations

import os
import shutil
import ssl
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from imagetool.errors import HostFailed
from imagetool.host.environment import child_environment
from imagetool.host.local import find_powershell
from imagetool.lab.emulated_host import EmulatedHost
from imagetool.lab.path_filter import engine_command
from imagetool.lab.session import connect_host
from imagetool.lab.winrm.authentication import ConnectionAuthenticator
from imagetool.lab.winrm.certificate import make_certificate
from imagetool.lab.winrm.fault_injection import FaultInjector
from imagetool.lab.winrm.http_server import WSMAN_PATH, HttpServer
from imagetool.lab.winrm.limits import Limits
from imagetool.lab.winrm.operations import ShellOperations
from imagetool.lab.winrm.served_request import ServedRequest
from imagetool.lab.winrm.shells import Shells
from imagetool.lab.winrm.users import ACCEPTOR_VARIABLES, User


class Endpoint:
    """A WinRM endpoint on 127.0.0.1, open from its construction until close().

    One user, one emulated host: `emulated_host`, by default one of its own, or with `lasting` the
    one that lasts (lasting_host.py). Shells run PowerShell. With a keytab for the service HTTP,
    Kerberos is accepted as well, for the principal of the user's name; that needs
    `pyspnego[kerberos]`. `names` stands for IMAGETOOL_LAB_NAMES (path_names.py). Raises HostFailed
    where there is no PowerShell or the port is taken, WrongUsage for a mistake in `names`.
    """

    def __init__(
        self,
        *,
        https: bool = False,
        port: int = 0,
        emulated_host: EmulatedHost | None = None,
        limits: Limits | None = None,
        faults: FaultInjector | None = None,
        lasting: bool = False,
        engine: str | None = None,
        keytab: Path | None = None,
        names: str = "",
    ) -> None:
        program = engine or find_powershell()
        if program is None:
            raise HostFailed(
                "the endpoint runs PowerShell, and there is none in PATH",
                hint="Install pwsh; the host `lab` needs none.",
            )
        self.emulated_host = emulated_host or (None if lasting else EmulatedHost())
        self.limits = limits or Limits()
        self.faults = faults or FaultInjector()
        self.certificate: Path | None = None
        """The PEM file that a client must trust, with https."""
        self._folder = Path(tempfile.mkdtemp(prefix="imagetool-winrm-"))
        self._user = User(self._folder, keytab)
        self._kerberos = keytab is not None
        self._names = names
        self._at_end = ExitStack()
        self._shells: Shells | None = None
        self._server: HttpServer | None = None
        try:
            self._open(program, https, port)
        except BaseException:  # an interruption, too
            self.close()
            raise

    def _open(self, program: str, https: bool, port: int) -> None:
        tls: ssl.SSLContext | None = None
        if https:
            self.certificate, tls = make_certificate(self._folder)
        try:
            server = HttpServer(
                port, tls, self.limits, self.faults, self._authenticator_factory(https)
            )
        except OSError as error:
            raise HostFailed(
                f"port {port} of 127.0.0.1 cannot be listened on: {error.strerror}",
                hint="Name another with --port, or none and let the system choose.",
            ) from None
        self._server = server
        self.url = f"http{'s' if https else ''}://127.0.0.1:{server.port}{WSMAN_PATH}"
        faults = os.environ.get("IMAGETOOL_LAB_FAULTS", "")
        door, variables = connect_host(self.emulated_host, faults, self._at_end, self._names)
        self._at_end.callback(door.close)
        environment = child_environment(*ACCEPTOR_VARIABLES) | variables
        if sys.platform != "win32":
            # PowerShell leaves its pipes in the temporary folder when it is killed.
            (self._folder / "temporary").mkdir()
            environment["TMPDIR"] = str(self._folder / "temporary")
        command = engine_command(program, environment)
        self._shells = Shells(self.limits)
        operations = ShellOperations(
            self._shells, self.limits, command, environment, f"LAB\\{self.user}", self.url
        )
        server.start(operations, self._shells)

    def _authenticator_factory(self, https: bool) -> Callable[[], ConnectionAuthenticator]:
        return lambda: ConnectionAuthenticator(self._user, https, self._kerberos)

    @property
    def user(self) -> str:
        """The name of the one user."""
        return self._user.name

    @property
    def password(self) -> str:
        """The user's password, made for this endpoint."""
        return self._user.password

    @property
    def served_requests(self) -> list[ServedRequest]:
        """The last 10,000 requests that were answered or dropped, the oldest first."""
        return list(self._server.served_requests) if self._server is not None else []

    @property
    def shell_count(self) -> int:
        """The number of open shells."""
        return len(self._shells) if self._shells is not None else 0

    @property
    def process_ids(self) -> list[int]:
        """The identifiers of the running processes of all shells."""
        return self._shells.process_ids() if self._shells is not None else []

    def close(self) -> None:
        """End every connection, shell and process, and delete the temporary files."""
        if self._server is not None:
            self._server.closing.set()
        if self._shells is not None:
            self._shells.close()
        if self._server is not None:
            self._server.close()
        self._at_end.close()
        self._user.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
