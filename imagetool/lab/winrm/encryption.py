"""Message encryption by the security context of the connection: [MS-WSMV] 2.2.9.1.

A sealed message is a pair of MIME parts: a header with the protocol and the length, and four bytes
(the length of the signature, little endian), the signature and the sealed bytes. CredSSP seals
16 KB at a time, in as many pairs as needed (multipart/x-multi-encrypted).
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spnego import ContextProxy

SPNEGO = "application/HTTP-SPNEGO-session-encrypted"
KERBEROS = "application/HTTP-Kerberos-session-encrypted"
CREDSSP = "application/HTTP-CredSSP-session-encrypted"
SOAP_CONTENT_TYPE = "application/soap+xml;charset=UTF-8"
_PROTOCOLS = {name.lower(): name for name in (SPNEGO, KERBEROS, CREDSSP)}
_CREDSSP_CHUNK = 16_384
_ENCRYPTED_TYPE = re.compile(
    r"multipart/(?:x-multi-)?encrypted\s*;.*?protocol=\"?(?P<protocol>[^\";]+)\"?", re.IGNORECASE
)
_BOUNDARY = re.compile(r"boundary=(?:\"(?P<quoted>[^\"]{1,70})\"|(?P<bare>[^\";]{1,70}))")
_ORIGINAL_LENGTH = re.compile(rb"OriginalContent:.*;\s*Length=(\d{1,10})", re.IGNORECASE)
_OCTET_STREAM_HEADER = re.compile(
    rb"\s*Content-Type:\s*application/octet-stream\r\n", re.IGNORECASE
)


class UnsealError(Exception):
    """The message was not sealed by this connection's context, or is malformed."""


def parse_protocol(content_type: str) -> str | None:
    """Return the protocol of a sealed message, None for a plain body. Raises UnsealError."""
    if not content_type.lower().startswith("multipart/"):
        return None
    match = _ENCRYPTED_TYPE.match(content_type)
    protocol = _PROTOCOLS.get(match["protocol"].strip().lower()) if match else None
    if protocol is None:
        raise UnsealError(content_type[:100])
    return protocol


def unseal(context: ContextProxy, content_type: str, body: bytes) -> bytes:
    """Return the plain message. Raises UnsealError where anything about the body is wrong."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise UnsealError("no boundary")
    boundary = re.escape((found["quoted"] or found["bare"]).encode("latin-1", "replace"))
    parts = re.split(rb"--\s?" + boundary + rb"(?:\r\n|--\r\n\Z|--\Z)", body)
    if len(parts) < 4 or len(parts) % 2 or parts[0].strip() or parts[-1].strip():
        raise UnsealError("not pairs of parts")
    message = []
    for header, payload in zip(parts[1:-1:2], parts[2:-1:2], strict=True):
        octets = _OCTET_STREAM_HEADER.match(payload)
        original = _ORIGINAL_LENGTH.search(header)
        if octets is None or original is None:
            raise UnsealError("a part without its header")
        data = _unseal_part(context, payload[octets.end() :])
        if len(data) != int(original[1]):
            raise UnsealError("another length than it says")
        message.append(data)
    return b"".join(message)


def _unseal_part(context: ContextProxy, payload: bytes) -> bytes:
    from spnego.exceptions import SpnegoError

    if len(payload) < 4:
        raise UnsealError("no signature")
    (length,) = struct.unpack_from("<I", payload)
    if length > len(payload) - 4:
        raise UnsealError("a signature longer than its message")
    try:
        return context.unwrap_winrm(payload[4 : 4 + length], payload[4 + length :])
    except (SpnegoError, ValueError, struct.error) as error:
        raise UnsealError(type(error).__name__) from None


def seal(context: ContextProxy, protocol: str, message: bytes) -> tuple[str, bytes]:
    """Return the content type and the body of a message, sealed."""
    size = _CREDSSP_CHUNK if protocol == CREDSSP else len(message) or 1
    chunks = [message[at : at + size] for at in range(0, len(message), size)]
    kind = "multipart/x-multi-encrypted" if len(chunks) > 1 else "multipart/encrypted"
    parts = []
    for chunk in chunks:
        sealed = context.wrap_winrm(chunk)
        parts += [
            b"--Encrypted Boundary\r\n\tContent-Type: ", protocol.encode("ascii"),
            b"\r\n\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=",
            str(len(chunk) + sealed.padding_length).encode("ascii"),
            b"\r\n--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n",
            struct.pack("<I", len(sealed.header)), sealed.header, sealed.data,
        ]  # fmt: skip
    parts.append(b"--Encrypted Boundary--\r\n")
    return f'{kind};protocol="{protocol}";boundary="Encrypted Boundary"', b"".join(parts)
