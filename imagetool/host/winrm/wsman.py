"""The WS-Management operations of a remote shell ([MS-WSMV] 3.1.4), through pywinrm.

A connection carries one operation at a time. Each returns its result or raises: TimedOut, Busy,
PipeClosed, ConnectionBroke (the host may have taken the operation or not), or HostFailed with a
sentence that tells a refusal from a broken connection. pywinrm's unbounded retries are not used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from imagetool.errors import HostFailed
from imagetool.host.winrm import failures

if TYPE_CHECKING:
    from requests import PreparedRequest, Response
    from requests import Session as Http
    from winrm.protocol import Protocol

    from imagetool.host.configuration import ConfiguredHost
    from imagetool.host.configuration.credentials import Credentials
    from imagetool.host.winrm.adapter import BoundedAdapter

MAX_INPUT_BYTES = 96 * 1024
"""Bytes of standard input in one message at most: with base64 and its envelope 130 KB of the 150 KB
that old hosts allow."""

IDLE_TIMEOUT = 300
"""Seconds without an operation after which the host ends a shell."""

OPERATION_TIMEOUT = 20
"""Seconds that the host takes for an operation at most (wsman:OperationTimeout)."""

_READ_TIMEOUT = OPERATION_TIMEOUT + 15
_OPERATION_LIMIT = 2 * _READ_TIMEOUT
_UTF8_CODE_PAGE = 65001

_LIBRARY_LOGGERS = ("winrm", "requests_credssp", "requests_kerberos", "spnego", "urllib3")

T = TypeVar("T")


class TimedOut(Exception):
    """The operation timed out on the host. A Receive had no output; a Send may have been taken."""


class Busy(Exception):
    """The host was too busy and did not take the operation (ERROR_BUSY, 170)."""


class PipeClosed(Exception):
    """The command has ended and takes no more input; its output can still be received."""


class WSManConnection:
    """One authenticated connection to a host; pywinrm is imported when it is made.

    `reconnecting`: an earlier connection to the host worked, so failures below HTTP are lost
    connections. Raises HostFailed where it would not be safe, or lacks its library.
    """

    def __init__(
        self, host: ConfiguredHost, credentials: Credentials, reconnecting: bool = False
    ) -> None:
        self.host = host
        self._connected_before = reconnecting
        from imagetool.host.winrm.adapter import BoundedAdapter

        self._adapter = BoundedAdapter()
        self._protocol = _protocol(host, credentials, self._adapter)

    def open_shell(self, variables: dict[str, str]) -> str:
        """Create a shell; return its identifier."""
        return self._perform(
            lambda protocol: protocol.open_shell(
                codepage=_UTF8_CODE_PAGE,
                idle_timeout=f"PT{IDLE_TIMEOUT}S",
                env_vars=variables or None,
            )
        )

    def run(self, shell: str, program: str, arguments: Sequence[str]) -> str:
        """Start a program with a binary standard input; return the command's identifier."""
        return self._perform(
            lambda protocol: protocol.run_command(
                shell, program, arguments, console_mode_stdin=False
            )
        )

    def send(self, shell: str, command: str, data: bytes, end: bool = False) -> None:
        """Send input to a command, at most MAX_INPUT_BYTES; `end` closes its standard input."""
        self._perform(lambda protocol: protocol.send_command_input(shell, command, data, end))

    def receive(self, shell: str, command: str, timeout: int) -> tuple[bytes, bytes, int | None]:
        """Return new standard output, standard error, and the exit code once the command has ended.

        Raises TimedOut where it wrote nothing in `timeout` seconds, from 1 to OPERATION_TIMEOUT.
        """

        def ask(protocol: Protocol) -> tuple[bytes, bytes, int | None]:
            protocol.operation_timeout_sec = timeout
            try:
                out, err, code, done = protocol.get_command_output_raw(shell, command)
            finally:
                protocol.operation_timeout_sec = OPERATION_TIMEOUT
            return out, err, code if done else None

        return self._perform(ask)

    def terminate(self, shell: str, command: str) -> None:
        """Terminate a command and its child processes."""
        self._perform(lambda protocol: protocol.cleanup_command(shell, command))

    def delete(self, shell: str) -> None:
        """Delete a shell, which ends the commands that still run in it."""
        self._perform(lambda protocol: protocol.close_shell(shell, close_session=False))

    def close(self) -> None:
        """Close the connection."""
        self._protocol.transport.close_session()
        self._adapter.close()

    def _perform(self, operation: Callable[[Protocol], T]) -> T:
        from requests import RequestException
        from winrm import exceptions

        try:
            with self._adapter.time_limit(_OPERATION_LIMIT):
                result = operation(self._protocol)
        except exceptions.WinRMOperationTimeoutError:
            self._connected_before = True
            raise TimedOut from None
        except exceptions.WSManFaultError as error:
            self._connected_before = True
            raise self._fault(error.wsman_fault_code or error.wmierror_code, error.reason) from None
        except exceptions.AuthenticationError:
            raise failures.authentication_error(self.host) from None
        except exceptions.WinRMTransportError as error:
            raise failures.status_error(self.host, error.code, self._connected_before) from None
        except RequestException as error:
            raise failures.connection_error(self.host, error, self._connected_before) from None
        except _UnsafeConnection as error:
            raise HostFailed(f"{self.host.name}: {error}", hint=error.hint) from None
        except Exception as error:
            raise failures.protocol_error(self.host, error) from None
        self._connected_before = True
        return result

    def _fault(self, code: int | None, reason: str) -> Exception:
        if code == 170:
            return Busy()
        if code is not None and code & 0xFFFF in (109, 232) and code >> 16 in (0, 0x8007):
            return PipeClosed()
        return failures.fault_error(self.host, code, reason)


class _UnsafeConnection(Exception):
    """A connection that is not used, for it lacks its library or its encryption."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def _protocol(host: ConfiguredHost, credentials: Credentials, adapter: BoundedAdapter) -> Protocol:
    """Return pywinrm's client, set up so that no secret is sent unencrypted."""
    encrypted = host.url.lower().startswith("https:")
    if not encrypted and host.transport in ("basic", "certificate"):
        raise HostFailed(
            f"{host.name}: {host.transport} authentication over plain http is refused",
            hint="Use https, or ntlm, kerberos or credssp, which encrypt their messages.",
        )
    from winrm import exceptions
    from winrm.protocol import Protocol

    for library in _LIBRARY_LOGGERS:
        # Our own errors say what they log; NullHandler keeps it off standard error.
        logging.getLogger(library).addHandler(logging.NullHandler())
    try:
        protocol = Protocol(
            endpoint=host.url,
            transport=host.transport,
            username=credentials.user or None,
            password=credentials.password,
            ca_trust_path=cast("Any", host.certificate or None),
            cert_pem=host.client_certificate or None,
            cert_key_pem=host.client_key or None,
            server_cert_validation="validate" if host.validate else "ignore",
            kerberos_delegation=host.delegate,
            read_timeout_sec=_READ_TIMEOUT,
            operation_timeout_sec=OPERATION_TIMEOUT,
            message_encryption="auto" if encrypted else "always",
            proxy=host.proxy or None,
        )
    except exceptions.InvalidCredentialsError as error:
        raise HostFailed(
            f"{host.name}: {error}",
            hint="Set IMAGETOOL_USER and IMAGETOOL_PASSWORD, or user in the configuration.",
        ) from None
    protocol.transport = _guarded_transport(protocol.transport, adapter)
    return protocol


def _guarded_transport(transport: Any, adapter: BoundedAdapter) -> Any:
    """Return pywinrm's transport, changed to use the adapter and to refuse three things that it
    accepts: redirects, .netrc, and plain text in place of an encrypted answer."""
    from requests.auth import HTTPBasicAuth
    from winrm import exceptions
    from winrm.transport import Transport

    class Guarded(Transport):
        def build_session(self) -> Http:
            try:
                session: Http = super().build_session()
            except exceptions.WinRMError as error:
                if isinstance(error, exceptions.AuthenticationError):
                    raise
                raise _UnsafeConnection(
                    str(error),
                    f"Install imagetool with its extra for it: imagetool[{self.auth_method}].",
                ) from None
            session.trust_env = False
            if self.auth_method in ("basic", "plaintext", "ssl") and self.username:
                # requests would encode str as Latin-1.
                user, password = self.username.encode(), (self.password or "").encode()
                session.auth = HTTPBasicAuth(user, password)
            return session

        def _send_message_request(self, session: Http, prepared_request: PreparedRequest) -> Any:
            if session.max_redirects:
                session.max_redirects = 0
                session.headers["Accept-Encoding"] = "identity"
                session.mount("https://", adapter)
                session.mount("http://", adapter)
            return super()._send_message_request(session, prepared_request)

        def _get_message_response_text(self, response: Response) -> bytes:
            kind = response.headers.get("Content-Type", "")
            sealed = self.encryption and self.encryption.protocol_string.decode()
            if sealed and f'protocol="{sealed}"' not in kind:
                if response.status_code != 200:
                    raise exceptions.WinRMTransportError("http", response.status_code, "")
                raise _UnsafeConnection(
                    "an answer came back in plain text, and is not trusted",
                    "Something between here and the host changes messages: use https.",
                )
            text: bytes = super()._get_message_response_text(response)
            return text

    transport.__class__ = Guarded
    return transport
