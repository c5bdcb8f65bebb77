"""PKCS#7 SignedData: content, signer, signing time, and their verification.

RFC 5652, section 5; countersignatures as in section 11.4 and in RFC 3161. The certificates must
have been valid at the time of the countersignature; without one they must be valid now.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from pyasn1.type import univ, useful

from imagetool.errors import Corrupt
from imagetool.package.signature import asn1
from imagetool.package.signature.certificates import (
    CODE_SIGNING,
    TIME_STAMPING,
    Untrusted,
    check_chain,
    common_name,
    is_signed_by,
    parse_certificate,
)

_DIGEST_ALGORITHMS = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_MAX_CERTIFICATES = 64
_MAX_NESTED_SIGNATURES = 4


class Altered(Exception):  # internal to this folder
    """Content that does not match its signature; the message is part of a sentence."""


class Signer(NamedTuple):
    """The signer, its root, the time (None: not countersigned) and the digest algorithm."""

    name: str
    root: str
    signed_at: datetime | None
    digest_algorithm: str


class SignedData:
    """A PKCS#7 signature. Raises Corrupt, naming `where`."""

    def __init__(self, data: bytes, where: str) -> None:
        self.where = where
        outer = asn1.decode(data, asn1.ContentInfo(), where)
        if str(outer["contentType"]) != asn1.SIGNED_DATA or not outer["content"].isValue:
            raise Corrupt(f"{where}: this is no PKCS#7 signature")
        inner = asn1.decode(bytes(outer["content"]), asn1.SignedData(), where)
        self.content_type = str(inner["content"]["contentType"])
        encapsulated = inner["content"]["content"]
        self.content = bytes(encapsulated) if encapsulated.isValue else b""
        """The signed content: one ASN.1 element."""
        self.certificates = tuple(_certificates(inner["certificates"]))
        self._signers = list(inner["signers"])
        if not self._signers:
            raise Corrupt(f"{where}: nobody signed it")

    def verify(self, roots: Sequence[x509.Certificate], now: datetime | None = None) -> Signer:
        """Verify the signature and its chain; return the signer.

        Raises Altered, Untrusted, Corrupt.
        """
        return self._verify(self.content, roots, now or datetime.now(UTC))

    def _verify(self, content: bytes, roots: Sequence[x509.Certificate], now: datetime) -> Signer:
        signer = self._signers[0]
        attributes = _attributes(signer["unsignedAttributes"], self.where)
        signed_at = self._signing_time(signer, attributes, roots, now)
        octets = asn1.contents_octets(content, self.where)
        certificate = _verify_signer(
            signer, octets, self.certificates, self.where, self.content_type
        )
        chain = check_chain(certificate, self.certificates, roots, signed_at or now, CODE_SIGNING)
        digest = _digest_algorithm(signer["digestAlgorithm"], self.where)
        return Signer(common_name(certificate), common_name(chain[-1]), signed_at, digest)

    def nested_signatures(self) -> Iterator[SignedData]:
        """Parse the nested signatures: the same content, other digest algorithms."""
        attributes = _attributes(self._signers[0]["unsignedAttributes"], self.where)
        for data in attributes.get(asn1.NESTED_SIGNATURE, [])[:_MAX_NESTED_SIGNATURES]:
            yield SignedData(data, self.where)

    @property
    def digest_algorithm(self) -> str:
        """The digest algorithm of the signature: sha1, sha256."""
        return _digest_algorithm(self._signers[0]["digestAlgorithm"], self.where)

    def _signing_time(
        self,
        signer: Any,
        attributes: dict[str, list[bytes]],
        roots: Sequence[x509.Certificate],
        now: datetime,
    ) -> datetime | None:
        """Return the time of a verified countersignature; None without one."""
        signature = bytes(signer["signature"])
        for data in attributes.get(asn1.COUNTERSIGNATURE, []):
            other = asn1.decode(data, asn1.SignerInfo(), self.where)
            certificate = _verify_signer(other, signature, self.certificates, self.where)
            signed = _attributes(other["signedAttributes"], self.where)
            at = _parse_time(signed.get(asn1.SIGNING_TIME, [b""])[0], self.where)
            check_chain(certificate, self.certificates, roots, at, TIME_STAMPING)
            return at
        for data in attributes.get(asn1.RFC3161_COUNTERSIGNATURE, []):
            return _verify_time_stamp(SignedData(data, self.where), signature, roots)
        return None


def _verify_time_stamp(
    token: SignedData, signature: bytes, roots: Sequence[x509.Certificate]
) -> datetime:
    """Verify a time stamp token and return its time (RFC 3161)."""
    if token.content_type != asn1.TST_INFO:
        raise Corrupt(f"{token.where}: a time stamp that is none")
    content = asn1.contents_octets(token.content, token.where)
    stamp = asn1.decode(content, asn1.TimeStamp(), token.where)
    imprint = stamp["messageImprint"]
    digest = _digest_algorithm(imprint["hashAlgorithm"], token.where)
    if hashlib.new(digest, signature).digest() != bytes(imprint["hashedMessage"]):
        raise Altered("the time stamp belongs to another signature")
    certificate = _verify_signer(
        token._signers[0], content, token.certificates, token.where, token.content_type
    )
    at = _to_datetime(stamp["genTime"], token.where)
    check_chain(certificate, token.certificates, roots, at, TIME_STAMPING)
    return at


def _verify_signer(
    signer: Any,
    content: bytes,
    certificates: Sequence[x509.Certificate],
    where: str,
    content_type: str = "",
) -> x509.Certificate:
    """Find the certificate whose key signed these contents octets, as this content type.

    Raises Altered, Untrusted.
    """
    serial, issuer = int(signer["signer"]["serial"]), bytes(signer["signer"]["issuer"])
    with warnings.catch_warnings():  # about serial numbers that RFC 5280 forbids
        warnings.simplefilter("ignore")
        certificate = next(
            (
                item
                for item in certificates
                if item.serial_number == serial and item.issuer.public_bytes() == issuer
            ),
            None,
        )
    if certificate is None:
        raise Untrusted("the signer's certificate is not in the signature")
    digest = _digest_algorithm(signer["digestAlgorithm"], where)
    signed = content
    if signer["signedAttributes"].isValue:
        attributes = _attributes(signer["signedAttributes"], where)
        listed = attributes.get(asn1.MESSAGE_DIGEST, [b""])[0]
        own = hashlib.new(digest, content).digest()
        if not listed or bytes(asn1.decode(listed, univ.OctetString(), where)) != own:
            raise Altered("the content is not what was signed")
        kind = attributes.get(asn1.CONTENT_TYPE, [b""])[0]
        if content_type and (
            not kind or str(asn1.decode(kind, univ.ObjectIdentifier(), where)) != content_type
        ):
            raise Altered("it was signed as something else")  # RFC 5652, 11.1
        signed = asn1.encode_set(signer["signedAttributes"])  # RFC 5652, 5.4
    if not is_signed_by(certificate, bytes(signer["signature"]), signed, _HASHES[digest]()):
        raise Altered(f"the signature of {common_name(certificate)} does not fit")
    return certificate


def _certificates(field: Any) -> Iterator[x509.Certificate]:
    if not field.isValue:
        return
    for item in list(field)[:_MAX_CERTIFICATES]:
        certificate = parse_certificate(bytes(item))
        if certificate is not None:
            yield certificate


def _attributes(field: Any, where: str) -> dict[str, list[bytes]]:
    """Return attributes by type, each value as one ASN.1 element."""
    if not field.isValue:
        return {}
    found: dict[str, list[bytes]] = {}
    for item in field:
        attribute = asn1.decode(bytes(item), asn1.Attribute(), where)
        values = [bytes(value) for value in attribute["values"]]
        found.setdefault(str(attribute["type"]), []).extend(values)
    return found


def _digest_algorithm(algorithm: Any, where: str) -> str:
    identifier = str(algorithm["algorithm"])
    if identifier not in _DIGEST_ALGORITHMS:
        raise Corrupt(f"{where}: a signature with the unknown digest {identifier}")
    return _DIGEST_ALGORITHMS[identifier]


def _parse_time(data: bytes, where: str) -> datetime:
    kind = useful.GeneralizedTime() if data[:1] == b"\x18" else useful.UTCTime()
    return _to_datetime(asn1.decode(data, kind, where), where)


def _to_datetime(value: Any, where: str) -> datetime:
    try:
        found: datetime = value.asDateTime
    except (ValueError, TypeError, AttributeError):
        raise Corrupt(f"{where}: a time that is none") from None
    except Exception as error:  # pyasn1 raises its own
        raise Corrupt(f"{where}: a time that is none: {error}") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
