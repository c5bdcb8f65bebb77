"""The structures of signatures, as pyasn1 reads them.

RFC 5652 (CMS), sections 3 to 6; RFC 3161, section 2.4.2; Microsoft, "Windows Authenticode Portable
Executable Signature Format", 1.0, for what begins with Spc; [MS-CAESO] for certificate trust lists.
What is only handed on (certificates, signed attributes) stays bytes, for its digest counts.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pyasn1.codec.der.decoder import decode as _decode
from pyasn1.codec.der.encoder import encode as _encode
from pyasn1.error import PyAsn1Error
from pyasn1.type import namedtype, tag, univ, useful

from imagetool.errors import Corrupt

_DAMAGED = "The signature is damaged: compare the package with its origin."
LARGEST = 4 << 20

T = TypeVar("T")

SIGNED_DATA = "1.2.840.113549.1.7.2"
SPC_INDIRECT_DATA = "1.3.6.1.4.1.311.2.1.4"
TRUST_LIST = "1.3.6.1.4.1.311.10.1"
STAMP_CONTENT = "1.2.840.113549.1.9.16.1.4"
CONTENT_TYPE, MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
SIGNING_TIME, COUNTERSIGNATURE = "1.2.840.113549.1.9.5", "1.2.840.113549.1.9.6"
NESTED_SIGNATURE, TIME_STAMP = "1.3.6.1.4.1.311.2.4.1", "1.3.6.1.4.1.311.3.3.1"


def _tagged(kind: Any, number: int, *, explicit: bool = False) -> Any:
    label = tag.Tag(tag.tagClassContext, tag.tagFormatConstructed, number)
    return kind.subtype(explicitTag=label) if explicit else kind.subtype(implicitTag=label)


def _sequence(name: str, *parts: Any) -> type[univ.Sequence]:
    return type(name, (univ.Sequence,), {"componentType": namedtype.NamedTypes(*parts)})


_part, _maybe = namedtype.NamedType, namedtype.OptionalNamedType

Anything = univ.Any
AnySet = type("AnySet", (univ.SetOf,), {"componentType": univ.Any()})
AnySequence = type("AnySequence", (univ.SequenceOf,), {"componentType": univ.Any()})
AlgorithmIdentifier = _sequence(
    "AlgorithmIdentifier",
    _part("algorithm", univ.ObjectIdentifier()),
    _maybe("parameters", univ.Any()),
)
ContentInfo = _sequence(
    "ContentInfo",
    _part("contentType", univ.ObjectIdentifier()),
    _maybe("content", _tagged(univ.Any(), 0, explicit=True)),
)
Attribute = _sequence(
    "Attribute", _part("type", univ.ObjectIdentifier()), _part("values", AnySet())
)
IssuerAndSerial = _sequence(
    "IssuerAndSerial", _part("issuer", univ.Any()), _part("serial", univ.Integer())
)
SignerInfo = _sequence(
    "SignerInfo",
    _part("version", univ.Integer()),
    _part("signer", IssuerAndSerial()),
    _part("digestAlgorithm", AlgorithmIdentifier()),
    _maybe("signedAttributes", _tagged(AnySet(), 0)),
    _part("signatureAlgorithm", AlgorithmIdentifier()),
    _part("signature", univ.OctetString()),
    _maybe("unsignedAttributes", _tagged(AnySet(), 1)),
)
SignedData = _sequence(
    "SignedData",
    _part("version", univ.Integer()),
    _part("digestAlgorithms", AnySet()),
    _part("content", ContentInfo()),
    _maybe("certificates", _tagged(AnySet(), 0)),
    _maybe("revocations", _tagged(AnySet(), 1)),
    _part("signers", type("Signers", (univ.SetOf,), {"componentType": SignerInfo()})()),
)
DigestInfo = _sequence(
    "DigestInfo",
    _part("digestAlgorithm", AlgorithmIdentifier()),
    _part("digest", univ.OctetString()),
)
SpcIndirectData = _sequence(
    "SpcIndirectData", _part("data", univ.Any()), _part("messageDigest", DigestInfo())
)
TrustedSubject = _sequence(
    "TrustedSubject",
    _part("identifier", univ.OctetString()),
    _maybe("attributes", type("Attributes", (univ.SetOf,), {"componentType": Attribute()})()),
)
TrustList = _sequence(
    "TrustList",
    _part("usage", AnySequence()),
    _maybe("identifier", univ.OctetString()),
    _part("thisUpdate", useful.UTCTime()),
    _part("algorithm", AlgorithmIdentifier()),
    _part("subjects", type("Subjects", (univ.SequenceOf,), {"componentType": TrustedSubject()})()),
    _maybe("extensions", _tagged(univ.Any(), 0, explicit=True)),
)
MessageImprint = _sequence(
    "MessageImprint",
    _part("hashAlgorithm", AlgorithmIdentifier()),
    _part("hashedMessage", univ.OctetString()),
)
TimeStamp = _sequence(
    "TimeStamp",
    _part("version", univ.Integer()),
    _part("policy", univ.ObjectIdentifier()),
    _part("messageImprint", MessageImprint()),
    _part("serialNumber", univ.Integer()),
    _part("genTime", useful.GeneralizedTime()),
    _maybe("accuracy", AnySequence()),
    _maybe("ordering", univ.Boolean()),
    _maybe("nonce", univ.Integer()),
    _maybe("authority", _tagged(univ.Any(), 0, explicit=True)),
    _maybe("extensions", _tagged(AnySequence(), 1)),
)


def decoded(data: bytes, specification: T, where: str) -> T:
    """The structure at the start of `data`. Raises Corrupt, naming `where`."""
    if len(data) > LARGEST:
        raise Corrupt(f"{where}: a structure of {len(data)} bytes", hint=_DAMAGED)
    try:
        return _decode(data, asn1Spec=specification)[0]  # type: ignore[no-any-return]
    except (PyAsn1Error, RecursionError, ValueError, TypeError, IndexError, KeyError):
        name = type(specification).__name__
        raise Corrupt(f"{where}: damaged ASN.1 ({name})", hint=_DAMAGED) from None


def set_of(values: univ.SetOf) -> bytes:
    """The bytes of a set in DER: what is signed of attributes is these, not their tag in place."""
    plain = AnySet()
    plain.extend([univ.Any(bytes(value)) for value in values])
    return _encode(plain)  # type: ignore[no-any-return]


def value_of(data: bytes, where: str) -> bytes:
    """The content octets of an element, without its tag and length (X.690, 8.1)."""
    if len(data) >= 2:
        length, start = data[1], 2
        if length & 0x80:
            start = 2 + (length & 0x7F)
            length = int.from_bytes(data[2:start], "big")
        if len(data) >= start + length and start <= 6:
            return data[start : start + length]
    raise Corrupt(f"{where}: damaged ASN.1", hint=_DAMAGED)
