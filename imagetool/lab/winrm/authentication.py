"""Who asks: Basic, and Negotiate, NTLM, Kerberos and CredSSP through pyspnego.

A handshake belongs to its connection, as WinRM has it: what it established holds for later requests
on the same connection and for no other. [MS-WSMV] 2.2.9 and 3.1.4.1; RFC 4559; RFC 7617.
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
    """The request is answered with 401 and these WWW-Authenticate headers."""

    def __init__(self, challenges: list[str]) -> None:
        super().__init__("401")
        self.challenges = challenges


class ConnectionAuthenticator:
    """What is known of one connection's client."""

    def __init__(self, user: User, tls: bool, kerberos: bool) -> None:
        self._user = user
        self._tls = tls
        # As Windows offers them: Basic would show the password to whoever reads plain HTTP.
        self._challenges = ["Negotiate"]
        if kerberos:
            self._challenges.append("Kerberos")
        if tls:
            self._challenges.append('Basic realm="WSMAN"')
        self._challenges.append("CredSSP")
        self._handshake: tuple[str, ContextProxy] | None = None
        self._steps = 0
        self.context: ContextProxy | None = None
        """What seals messages; None before a handshake is complete, and with Basic."""

    def authenticate(self, header: str | None) -> list[str]:
        """Let a request pass; the WWW-Authenticate headers that its answer must have.

        Raises Unauthorized for a step of a handshake, and where something is wrong.
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
            # What a stranger sends breaks an acceptor in more ways than SpnegoError names (struct,
            # Unicode, index); whatever it is, the stranger is not let in.
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
