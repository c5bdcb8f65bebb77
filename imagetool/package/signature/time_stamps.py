"""Times that somebody else confirmed: countersignatures and time stamp tokens.

Countersignatures as in RFC 5652, 11.4; tokens as in RFC 3161, which name the certificate of their
signer (RFC 2634, RFC 5035). A time stamp counts only under a trusted root of its own.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from imagetool.errors import Corrupt
from imagetool.package.signature import der
from imagetool.package.signature.certificates import TIME_STAMPING
from imagetool.package.signature.chain import Trust, check_certificates, check_chain
from imagetool.package.signature.signed_data import (
    COUNTERSIGNATURE,
    TIME_STAMP_TOKEN,
    Altered,
    SignedData,
    SignerInfo,
    digest_algorithm,
)

_TOKEN_VERSION = 3
"""Of SignedData whose content is not data (RFC 5652, 5.1)."""
_MAX_ATTRIBUTE_CERTIFICATE_SIZE = 1024
_MAX_SIGNATURE_SIZE = 513
_DIGEST_OF_CERTIFICATE = b"\1"
_DATA = "1.2.840.113549.1.7.1"
_TST_INFO = "1.2.840.113549.1.9.16.1.4"
_SIGNING_TIME = "1.2.840.113549.1.9.5"
_SIGNING_CERTIFICATE = "1.2.840.113549.1.9.16.2.12"
_SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47"


class Stamp(NamedTuple):
    """A confirmed time, and the chain of a countersignature.

    The certificates of a countersignature lie among those of the signature; a token has its own.
    """

    at: datetime
    chain: tuple[x509.Certificate, ...]


def read_stamp(signed: SignedData, trust: Trust) -> Stamp | None:
    """Verify the time stamp of a signature; None if it has none.

    Raises Altered, Untrusted, Corrupt.
    """
    unsigned = signed.signer.unsigned
    kinds = [(kind, item) for kind in (COUNTERSIGNATURE, TIME_STAMP_TOKEN)
             for item in unsigned.get(kind, [])]  # fmt: skip
    if len(kinds) > 1:
        raise Corrupt(f"{signed.where}: {len(kinds)} time stamps on one signature")
    for kind, element in kinds:
        if kind == COUNTERSIGNATURE:
            return _verify_countersignature(SignerInfo(element), signed, trust)
        return _verify_token(SignedData(element, _TOKEN_VERSION), signed.signer.signature, trust)
    return None


def _verify_countersignature(signer: SignerInfo, signed: SignedData, trust: Trust) -> Stamp:
    if signer.unsigned:
        raise Corrupt(f"{signed.where}: a countersignature with unsigned attributes")
    certificate = signer.verify(signed.signer.signature, _DATA, signed.certificates)
    value = signer.signed_value(_SIGNING_TIME)
    if value is None:
        raise Corrupt(f"{signed.where}: a countersignature without a time")
    at = der.time(value)
    return Stamp(at, check_chain(certificate, signed.certificates, trust, at, TIME_STAMPING))


def _verify_token(token: SignedData, signature: bytes, trust: Trust) -> Stamp:
    if token.content_type != _TST_INFO or token.content.tag != der.OCTET_STRING:
        raise Corrupt(f"{token.where}: a time stamp that is none")
    if token.signer.unsigned:
        raise Corrupt(f"{token.where}: a time stamp with unsigned attributes")
    content = token.content.contents
    certificate = token.verify_signer()
    fields = der.parse(content, der.SEQUENCE, token.where).fields()
    if der.integer(fields.take(der.INTEGER)) != 1:
        raise Corrupt(f"{token.where}: a time stamp of an unknown version")
    fields.take(der.IDENTIFIER)  # the authority's policy
    imprint = fields.take(der.SEQUENCE).fields()
    algorithm = digest_algorithm(imprint.take(der.SEQUENCE))
    if hashlib.new(algorithm, signature).digest() != imprint.take(der.OCTET_STRING).contents:
        raise Altered("the time stamp belongs to another signature")
    fields.take(der.INTEGER)
    at = der.time(fields.take(der.GENERALIZED_TIME))
    _check_named(token.signer, certificate)
    _check_attribute_certificates(token, certificate)
    chain = check_chain(certificate, token.certificates, trust, at, TIME_STAMPING)
    check_certificates(token.certificates, chain)
    return Stamp(at, ())


def _check_attribute_certificates(token: SignedData, certificate: x509.Certificate) -> None:
    """Check that the one attribute certificate of a clock is about it (RFC 5755, 4.1 and 4.2.2).

    It states how exact the clock is, and decides nothing; the key of who issued it is not known.
    """
    for number, item in enumerate(token.attribute_certificates):
        fields = der.Fields(item)
        info, algorithm = fields.take(der.SEQUENCE).fields(), fields.take(der.SEQUENCE)
        value = fields.take(der.BIT_STRING).contents
        fields.end()
        is_sound = der.integer(info.take(der.INTEGER)) == 1
        holder = der.Fields(info.take(der.SEQUENCE))
        holder.optional(der.context(1))
        stated = der.Fields(holder.take(der.context(2)))
        is_sound &= stated.take(der.ENUMERATED).contents == _DIGEST_OF_CERTIFICATE
        digest = hashlib.new(digest_algorithm(stated.take(der.SEQUENCE)), _whole(certificate))
        is_sound &= stated.take(der.BIT_STRING).contents == b"\0" + digest.digest()
        stated.end()
        holder.end()
        info.take(der.context(0))  # who issued it
        is_sound &= info.take(der.SEQUENCE).whole == algorithm.whole
        info.take(der.INTEGER)  # its serial number
        validity = info.take(der.SEQUENCE).fields()
        validity.take(der.GENERALIZED_TIME)
        validity.take(der.GENERALIZED_TIME)
        validity.end()
        info.take(der.SEQUENCE)  # the attributes
        info.end()
        is_small = len(item.contents) <= _MAX_ATTRIBUTE_CERTIFICATE_SIZE
        if number or not is_sound or not is_small or len(value) > _MAX_SIGNATURE_SIZE:
            raise item.damaged("an attribute certificate that is not of this clock")


def _whole(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _check_named(signer: SignerInfo, certificate: x509.Certificate) -> None:
    """Check that the signed attributes name this certificate (RFC 3161, 2.4.2)."""
    data = _whole(certificate)
    found = False
    for kind in (_SIGNING_CERTIFICATE, _SIGNING_CERTIFICATE_V2):
        value = signer.signed_value(kind)
        if value is None:
            continue
        fields = value.fields().take(der.SEQUENCE).fields().take(der.SEQUENCE).fields()
        algorithm = "sha1"
        if kind == _SIGNING_CERTIFICATE_V2:
            stated = fields.optional(der.SEQUENCE)
            algorithm = digest_algorithm(stated) if stated else "sha256"
        if hashlib.new(algorithm, data).digest() != fields.take(der.OCTET_STRING).contents:
            raise Altered("the time stamp names another certificate as its signer's")
        found = True
    if not found:
        raise Altered("the time stamp does not name the certificate of its signer")
