"""PKCS#7 SignedData: content, signer, certificates, nested signatures.

RFC 5652, section 5, as Authenticode uses it: one signer, signed attributes. What no signature
covers (versions, algorithms, the unsigned attributes, the certificates) must be of a known kind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from imagetool.errors import Corrupt
from imagetool.package.signature import der
from imagetool.package.signature.certificates import (
    Untrusted,
    common_name,
    is_rsa,
    is_signed_by,
    parse_certificate,
)

_SIGNED_DATA = "1.2.840.113549.1.7.2"
_CONTENT_TYPE, _MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
COUNTERSIGNATURE = "1.2.840.113549.1.9.6"
TIME_STAMP_TOKEN = "1.3.6.1.4.1.311.3.3.1"  # noqa: S105  # an OID, no password
_NESTED_SIGNATURE = "1.3.6.1.4.1.311.2.4.1"
_UNSIGNED_ATTRIBUTES = {COUNTERSIGNATURE, TIME_STAMP_TOKEN, _NESTED_SIGNATURE}
_DIGEST_ALGORITHMS = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303  # old packages have it
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
_SIGNATURE_ALGORITHMS = {
    # RSA and ECDSA with the digest named elsewhere; with SHA-1, SHA-256, SHA-384, SHA-512
    "1.2.840.113549.1.1.1": "",
    "1.2.840.10045.2.1": "",
    "1.2.840.113549.1.1.5": "sha1",
    "1.2.840.10045.4.1": "sha1",
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.10045.4.3.2": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
    "1.2.840.10045.4.3.4": "sha512",
}
_KEY_ALGORITHMS = {True: "1.2.840.113549.1.1.", False: "1.2.840.10045."}
"""What identifiers of signature algorithms begin with; True: those of RSA keys."""
_MAX_CERTIFICATES = 64
_ATTRIBUTE_CERTIFICATE = der.context(1)
_MAX_CERTIFICATE_SIZE = 1 << 16
_MAX_ATTRIBUTE_CERTIFICATE_SIZE = 4096
_MAX_NESTED_SIGNATURES = 4
_MAX_ATTRIBUTES = 64


class Altered(Exception):  # internal to this folder
    """Content that does not match its signature; the message is part of a sentence."""


class SignerInfo:
    """A signature over some content (RFC 5652, 5.3). Raises Corrupt."""

    def __init__(self, element: der.Element) -> None:
        self.where = element.where
        fields = element.fields()
        if der.integer(fields.take(der.INTEGER)) != 1:
            raise element.damaged("a signer of an unknown version")
        identity = fields.take(der.SEQUENCE).fields()
        self.issuer = identity.take(der.SEQUENCE).whole
        self.serial = identity.take(der.INTEGER).contents
        identity.end()
        self.digest_algorithm = digest_algorithm(fields.take(der.SEQUENCE))
        self._signed_attributes = fields.optional(der.context(0))
        self.signed = _attributes(self._signed_attributes, der.ANY_TAG)
        algorithm = self._algorithm = der.algorithm(fields.take(der.SEQUENCE))
        if _SIGNATURE_ALGORITHMS.get(algorithm) not in ("", self.digest_algorithm):
            raise element.damaged(f"a signature of the unknown kind {algorithm}")
        self.signature = fields.take(der.OCTET_STRING).contents
        self.unsigned = _attributes(fields.optional(der.context(1)), der.SEQUENCE)
        fields.end()

    def verify(
        self, content: bytes, content_type: str, certificates: Sequence[x509.Certificate]
    ) -> x509.Certificate:
        """Find the certificate whose key signed these contents octets, as this content type.

        Raises Altered, Untrusted, Corrupt.
        """
        certificate = next((item for item in certificates if self._is_by(item)), None)
        if certificate is None:
            raise Untrusted("the signer's certificate is not in the signature")
        if self._signed_attributes is None:
            raise Altered("there are no signed attributes")
        stated = self.signed_value(_MESSAGE_DIGEST)
        own = hashlib.new(self.digest_algorithm, content).digest()
        if stated is None or stated.tag != der.OCTET_STRING or stated.contents != own:
            raise Altered("the content is not what was signed")
        kind = self.signed_value(_CONTENT_TYPE)
        if kind is None or der.identifier(kind) != content_type:
            raise Altered("it was signed as something else")  # RFC 5652, 11.1
        # The signature covers the attributes as a SET (RFC 5652, 5.4).
        signed = bytes([der.SET]) + self._signed_attributes.whole[1:]
        if not self._algorithm.startswith(_KEY_ALGORITHMS[is_rsa(certificate)]):
            raise Altered(f"its algorithm is not one of the key of {common_name(certificate)}")
        digest = _HASHES[self.digest_algorithm]
        if not is_signed_by(certificate, self.signature, signed, digest):
            raise Altered(f"the signature of {common_name(certificate)} does not fit")
        return certificate

    @property
    def has_nested(self) -> bool:
        """True if other signatures are nested in this one."""
        return _NESTED_SIGNATURE in self.unsigned

    def signed_value(self, kind: str) -> der.Element | None:
        """Return the value of a signed attribute that has one value; None without it."""
        values = self.signed.get(kind, [])
        if len(values) > 1:
            raise Altered(f"the signed attribute {kind} is there twice")
        return values[0] if values else None

    def _is_by(self, certificate: x509.Certificate) -> bool:
        serial = int.from_bytes(self.serial, "big", signed=True)
        return certificate.serial_number == serial and (
            certificate.issuer.public_bytes() == self.issuer
        )


class SignedData:
    """A PKCS#7 signature with one signer. Raises Corrupt.

    `content_tag` is the tag of the content, which no digest covers. The time stamps of Microsoft's
    clocks alone bring an attribute certificate.
    """

    def __init__(
        self,
        element: der.Element,
        content_tag: int = der.SEQUENCE,
        *,
        attribute_certificate: bool = False,
    ) -> None:
        self.where = element.where
        outer = element.fields()
        if der.identifier(outer.take(der.IDENTIFIER)) != _SIGNED_DATA:
            raise Corrupt(f"{self.where}: this is no PKCS#7 signature")
        inner = _only(outer.take(der.context(0)), der.SEQUENCE)
        outer.end()
        fields = inner.fields()
        if der.integer(fields.take(der.INTEGER)) not in (1, 3):
            raise inner.damaged("a signature of an unknown version")
        algorithm = digest_algorithm(_only(fields.take(der.SET), der.SEQUENCE))
        content = fields.take(der.SEQUENCE).fields()
        self.content_type = der.identifier(content.take(der.IDENTIFIER))
        self.content = _only(content.take(der.context(0)), content_tag)
        """The signed content: one element."""
        content.end()
        self.certificates = tuple(
            _certificates(fields.optional(der.context(0)), attribute_certificate)
        )
        # Revocation lists would stand before it.
        signer = _only(fields.take(der.SET), der.SEQUENCE)
        fields.end()
        self.signer = SignerInfo(signer)
        if algorithm != self.signer.digest_algorithm:
            raise inner.damaged("the digest of the signer is not the one that is announced")
        for kind in self.signer.unsigned.keys() - _UNSIGNED_ATTRIBUTES:
            raise inner.damaged(f"the unsigned attribute {kind}, for which nobody vouches")

    @property
    def digest_algorithm(self) -> str:
        """The digest algorithm of the signature: sha1, sha256."""
        return self.signer.digest_algorithm

    def verify_signer(self) -> x509.Certificate:
        """Verify that the signer signed the content; return its certificate.

        Raises Altered, Untrusted, Corrupt.
        """
        return self.signer.verify(self.content.contents, self.content_type, self.certificates)

    def nested_signatures(self) -> Iterator[SignedData]:
        """Parse the nested signatures: the same content, other digest algorithms."""
        found = self.signer.unsigned.get(_NESTED_SIGNATURE, [])
        if len(found) > _MAX_NESTED_SIGNATURES:
            raise Corrupt(f"{self.where}: {len(found)} nested signatures")
        if len({element.whole for element in found}) < len(found):
            raise Corrupt(f"{self.where}: the same signature is nested twice")
        for element in found:
            nested = SignedData(element)
            if nested.signer.has_nested:
                raise element.damaged("a nested signature that nests others")
            yield nested


def digest_algorithm(element: der.Element) -> str:
    """Return the name of a digest algorithm. Raises Corrupt for one that is not known."""
    identifier = der.algorithm(element)
    if identifier not in _DIGEST_ALGORITHMS:
        raise element.damaged(f"the digest {identifier} is unknown, or does not count any more")
    return _DIGEST_ALGORITHMS[identifier]


def _only(element: der.Element, tag: int) -> der.Element:
    """Return the one element in another, which has this tag."""
    found = list(islice(element.elements(tag), 2))
    if len(found) != 1:
        raise element.damaged("not one element where one belongs")
    return found[0]


def _certificates(
    field: der.Element | None, attribute_certificate: bool
) -> Iterator[x509.Certificate]:
    """Parse the certificates, each of which is there once.

    One attribute certificate is left out, where there may be one: it is of version 1, states how
    exact a clock is, and decides nothing.
    """
    tags = (der.SEQUENCE, _ATTRIBUTE_CERTIFICATE) if attribute_certificate else (der.SEQUENCE,)
    seen: set[bytes] = set()
    for number, item in enumerate(field.elements(*tags) if field else ()):
        if number == _MAX_CERTIFICATES:
            raise item.damaged(f"more than {_MAX_CERTIFICATES} certificates")
        data = item.whole
        if item.tag == _ATTRIBUTE_CERTIFICATE:
            tags = (der.SEQUENCE,)
            if len(data) > _MAX_ATTRIBUTE_CERTIFICATE_SIZE or seen & {b""}:
                raise item.damaged("an attribute certificate that is none of a clock")
            item.check_all()
            seen.add(b"")
            continue
        if data in seen:
            raise item.damaged("a certificate that is there twice")
        seen.add(data)
        certificate = None
        if len(data) <= _MAX_CERTIFICATE_SIZE and _is_consistent(item):
            certificate = parse_certificate(data)
        if certificate is None:
            raise item.damaged("no sound certificate")
        yield certificate


def _is_consistent(certificate: der.Element) -> bool:
    """True if a certificate names its algorithm as its signed part does (RFC 5280, 4.1.1.2).

    Only that part is covered by its signature, so nothing may be hidden in the others.
    """
    fields = certificate.fields()
    signed = fields.take(der.SEQUENCE).fields()
    algorithm = fields.take(der.SEQUENCE)
    signature = fields.take(der.BIT_STRING)
    fields.end()
    signed.optional(der.context(0))
    signed.take(der.INTEGER)
    return signature.contents[:1] == b"\0" and (signed.take(der.SEQUENCE).whole == algorithm.whole)


def _attributes(field: der.Element | None, value_tag: int) -> dict[str, list[der.Element]]:
    """Return attributes by type, with their values."""
    found: dict[str, list[der.Element]] = {}
    for number, item in enumerate(field.elements(der.SEQUENCE) if field else ()):
        fields = item.fields()
        kind = der.identifier(fields.take(der.IDENTIFIER))
        values = list(fields.take(der.SET).elements(value_tag))
        fields.end()
        if number == _MAX_ATTRIBUTES or kind in found or not values:
            raise item.damaged(f"the attribute {kind} is there twice, or without a value")
        found[kind] = values
    return found
