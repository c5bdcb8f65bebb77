"""PKCS#7 SignedData: content, signer, certificates, nested signatures.

RFC 5652, section 5, as Authenticode uses it: one signer, signed attributes. What no signature
covers (versions, algorithms, the unsigned attributes, the certificates) must be of a known kind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from imagetool.errors import Corrupt
from imagetool.package.signature import der
from imagetool.package.signature.certificates import (
    Untrusted,
    common_name,
    is_signed_by,
    key_kind,
    parse_certificate,
    serial_number,
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
    # The kind of key, and the digest where it is not named elsewhere.
    "1.2.840.113549.1.1.1": ("RSA", ""),
    "1.2.840.113549.1.1.5": ("RSA", "sha1"),
    "1.2.840.113549.1.1.11": ("RSA", "sha256"),
    "1.2.840.113549.1.1.12": ("RSA", "sha384"),
    "1.2.840.113549.1.1.13": ("RSA", "sha512"),
    "1.2.840.10045.2.1": ("EC", ""),
    "1.2.840.10045.4.1": ("EC", "sha1"),
    "1.2.840.10045.4.3.2": ("EC", "sha256"),
    "1.2.840.10045.4.3.3": ("EC", "sha384"),
    "1.2.840.10045.4.3.4": ("EC", "sha512"),
}
_MAX_CERTIFICATES = 64
_MAX_CERTIFICATE_SIZE = 1 << 16
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
        self.serial = identity.take(der.INTEGER).contents  # compared as a number
        identity.end()
        self.digest_algorithm = digest_algorithm(fields.take(der.SEQUENCE))
        self._signed_attributes = fields.optional(der.context(0))
        self.signed = _attributes(self._signed_attributes)
        algorithm = der.algorithm(fields.take(der.SEQUENCE))
        self._key_kind, digest = _SIGNATURE_ALGORITHMS.get(algorithm, ("", "none"))
        if digest not in ("", self.digest_algorithm):
            raise element.damaged(f"a signature of the unknown kind {algorithm}")
        self.signature = fields.take(der.OCTET_STRING).contents
        self.unsigned = _attributes(fields.optional(der.context(1)))
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
        digest = _HASHES[self.digest_algorithm]
        if self._key_kind != key_kind(certificate):
            raise Altered(f"the signature is not of the kind of {common_name(certificate)}'s key")
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
        return serial_number(certificate) == serial and (
            certificate.issuer.public_bytes() == self.issuer
        )


class SignedData:
    """A PKCS#7 signature with one signer, of version 1; a time stamp token has another.

    Raises Corrupt.
    """

    def __init__(self, element: der.Element, version: int = 1) -> None:
        self.where = element.where
        outer = element.fields()
        if der.identifier(outer.take(der.IDENTIFIER)) != _SIGNED_DATA:
            raise Corrupt(f"{self.where}: this is no PKCS#7 signature")
        inner = _only(outer.take(der.context(0)), der.SEQUENCE)
        outer.end()
        fields = inner.fields()
        if der.integer(fields.take(der.INTEGER)) != version:
            raise inner.damaged("a signature of an unknown version")
        announced = digest_algorithm(_only(fields.take(der.SET), der.SEQUENCE))
        content = fields.take(der.SEQUENCE).fields()
        self.content_type = der.identifier(content.take(der.IDENTIFIER))
        self.content = _only(content.take(der.context(0)), der.SEQUENCE, der.OCTET_STRING)
        """The signed content: one element."""
        content.end()
        carried = _carried(fields.optional(der.context(0)))
        self.certificates = tuple(_certificates(carried))
        self.attribute_certificates = [item for item in carried if item.tag != der.SEQUENCE]
        if version == 1 and self.attribute_certificates:
            raise inner.damaged("an attribute certificate, which only time stamps have")
        # Revocation lists would stand before the signer.
        signer = _only(fields.take(der.SET), der.SEQUENCE)
        fields.end()
        self.signer = SignerInfo(signer)
        if announced != self.signer.digest_algorithm:
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
        before = [self]
        for element in found:
            nested = SignedData(element)
            if nested.signer.has_nested:
                raise element.damaged("a nested signature that nests others")
            if any(nested.signer.signature == item.signer.signature for item in before):
                raise element.damaged("a nested signature that is there twice")
            before.append(nested)
            yield nested


def digest_algorithm(element: der.Element) -> str:
    """Return the name of a digest algorithm. Raises Corrupt for one that is not known."""
    identifier = der.algorithm(element)
    if identifier not in _DIGEST_ALGORITHMS:
        raise element.damaged(f"the digest {identifier} is unknown, or does not count any more")
    return _DIGEST_ALGORITHMS[identifier]


def _only(element: der.Element, *tags: int) -> der.Element:
    found = next(element.elements(*tags), None)
    if found is None or found.end != element.end:
        raise element.damaged("not one element where one belongs")
    return found


def _carried(field: der.Element | None) -> list[der.Element]:
    """Return the certificates that come along, each there once."""
    found: dict[bytes, der.Element] = {}
    for item in field.elements(der.SEQUENCE, der.context(1)) if field else ():
        if len(found) == _MAX_CERTIFICATES:
            raise item.damaged(f"more than {_MAX_CERTIFICATES} certificates")
        if found.setdefault(item.whole, item) is not item:
            raise item.damaged("a certificate that is there twice")
    return list(found.values())


def _certificates(carried: Sequence[der.Element]) -> Iterator[x509.Certificate]:
    for item in carried:
        if item.tag == der.SEQUENCE:
            small = item.end - item.start <= _MAX_CERTIFICATE_SIZE
            certificate = parse_certificate(item) if small else None
            if certificate is None:
                raise item.damaged("no sound certificate")
            yield certificate


def _attributes(field: der.Element | None) -> dict[str, list[der.Element]]:
    """Return attributes by type, with their values."""
    found: dict[str, list[der.Element]] = {}
    for number, item in enumerate(field.elements(der.SEQUENCE) if field else ()):
        fields = item.fields()
        kind, values = (
            der.identifier(fields.take(der.IDENTIFIER)),
            list(fields.take(der.SET).elements()),
        )
        fields.end()
        if number == _MAX_ATTRIBUTES or kind in found or not values:
            raise item.damaged(f"the attribute {kind} is there twice, or without a value")
        found[kind] = values
    return found
