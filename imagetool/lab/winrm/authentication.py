"""HTTP authentication: Basic, and Negotiate, NTLM, Kerberos and CredSSP through pyspnego.

A handshake authenticates its connection, as in WinRM: later requests on the same connection need no
other, and requests on other connections do. [MS-WSMV] 2.2.9 and 3.1.4.1; RFC 4559; RFC 7617.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from imagetool.lab.winrm.users import User

if TYPE_CHECKING:
    from spnego import ContextProxy

_SCHEMES = {"negotiate": "Negotiate", "ntlm": "NTLM", "kerberos": "Kerberos", "credssp": "CredSSP"}
_MAX_TOKEN_SIZE = 64 << 10
_MAX_HANDSHAKE_STEPS = 12


class Unauthorized(Exception):
    """The request is to be answered with 401 and these WWW-Authenticate headers."""

    def __init__(self, challenges: list[str]) -> None:
        super().__init__("401")
        self.challenges = challenges


class ConnectionAuthenticator:
    """Authenticates the client of one connection; holds the state of its handshake."""

    def __init__(self, user: User, tls: bool, kerberos: bool) -> None:
        self._user = user
        self._tls = tls
        # The order of Windows. No Basic over plain HTTP: it would show the password.
        self._challenges = ["Negotiate"]
        if kerberos:
            self._challenges.append("Kerberos")
        if tls:
            self._challenges.append('Basic realm="WSMAN"')
        self._challenges.append("CredSSP")
        self._handshake: tuple[str, ContextProxy] | None = None
        self._steps = 0
        self.context: ContextProxy | None = None
        """Seals messages; None before a handshake is complete, and with Basic."""

    def authenticate(self, header: str | None) -> list[str]:
        """Check an Authorization header; return the response's WWW-Authenticate headers.

        Raises Unauthorized while a handshake goes on, and where the header is not accepted.
        """
        if header is None:
            if self.context is None:
                raise Unauthorized(self._challenges)
            return []
        scheme, _, encoded = header.strip().partition(" ")
        try:
            token = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            raise self._unauthorized() from None
        if scheme.lower() == "basic":
            self._check_basic(token)
            return []
        name = _SCHEMES.get(scheme.lower())
        if name is None or not token or len(token) > _MAX_TOKEN_SIZE:
            raise self._unauthorized()
        return self._step_handshake(name, token)

    def _unauthorized(self) -> Unauthorized:
        self._handshake = self.context = None
        return Unauthorized(self._challenges)

    def _check_basic(self, token: bytes) -> None:
        name, _, password = token.decode("utf-8", "replace").partition(":")
        if not self._tls or not self._user.has_password(name, password):
            raise self._unauthorized()

    def _step_handshake(self, scheme: str, token: bytes) -> list[str]:
        if self._handshake is None or self._handshake[0] != scheme:
            self._steps = 0
        self._steps += 1
        self.context = None
        if self._steps > _MAX_HANDSHAKE_STEPS:
            raise self._unauthorized()
        try:
            with self._user.acceptor_environment():
                if self._steps == 1:
                    self._handshake = (scheme, _acceptor(scheme))
                assert self._handshake is not None
                context = self._handshake[1]
                answer = context.step(token)
        except Exception:
            # Hostile tokens raise more than SpnegoError (struct, Unicode and index errors); each
            # of them ends the handshake.
            raise self._unauthorized() from None
        challenge = f"{scheme} {base64.b64encode(answer).decode('ascii')}" if answer else ""
        if not context.complete:
            if not challenge:
                raise self._unauthorized()
            raise Unauthorized([challenge])
        self._handshake = None
        if not self._user.has_name(context.client_principal or ""):
            raise self._unauthorized()
        self.context = context
        return [challenge] if challenge else []


def _acceptor(scheme: str) -> ContextProxy:
    import spnego

    if scheme == "CredSSP":
        return spnego.server(protocol="credssp", options=spnego.NegotiateOptions.use_negotiate)
    # The wrapper takes SPNEGO, and the bare NTLM and Kerberos tokens that some clients send.
    return spnego.server(
        service="http", protocol="negotiate", options=spnego.NegotiateOptions.use_negotiate
    )
