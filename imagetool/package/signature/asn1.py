"""ASN.1 structures of signatures, for pyasn1.

RFC 5652 (CMS), sections 3 to 6; RFC 3161, section 2.4.2; Microsoft, "Windows Authenticode Portable
Executable Signature Format", 1.0, for names with Spc; [MS-CAESO] for certificate trust lists.
Certificates and signed attributes stay bytes, because digests are computed over them.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pyasn1.codec.der.decoder import decode as _decode
from pyasn1.codec.der.encoder import encode as _encode
from pyasn1.error import PyAsn1Error
from pyasn1.type import namedtype, tag, univ, useful

from imagetool.errors import Corrupt

_DAMAGED = "The signature is damaged: compare the package with its origin."
MAX_STRUCTURE_SIZE = 4 << 20

T = TypeVar("T")

SIGNED_DATA = "1.2.840.113549.1.7.2"
SPC_INDIRECT_DATA = "1.3.6.1.4.1.311.2.1.4"
CERTIFICATE_TRUST_LIST = "1.3.6.1.4.1.311.10.1"
TST_INFO = "1.2.840.113549.1.9.16.1.4"
CONTENT_TYPE, MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
SIGNING_TIME, COUNTERSIGNATURE = "1.2.840.113549.1.9.5", "1.2.840.113549.1.9.6"
NESTED_SIGNATURE, RFC3161_COUNTERSIGNATURE = "1.3.6.1.4.1.311.2.4.1", "1.3.6.1.4.1.311.3.3.1"


def _tagged(kind: Any, number: int, *, explicit: bool = False) -> Any:
    label = tag.Tag(tag.tagClassContext, tag.tagFormatConstructed, number)
    return kind.subtype(explicitTag=label) if explicit else kind.subtype(implicitTag=label)


def _sequence(name: str, *parts: Any) -> type[univ.Sequence]:
    return type(name, (univ.Sequence,), {"componentType": namedtype.NamedTypes(*parts)})


_required, _optional = namedtype.NamedType, namedtype.OptionalNamedType

AnySet = type("AnySet", (univ.SetOf,), {"componentType": univ.Any()})
AnySequence = type("AnySequence", (univ.SequenceOf,), {"componentType": univ.Any()})
AlgorithmIdentifier = _sequence(
    "AlgorithmIdentifier",
    _required("algorithm", univ.ObjectIdentifier()),
    _optional("parameters", univ.Any()),
)
ContentInfo = _sequence(
    "ContentInfo",
    _required("contentType", univ.ObjectIdentifier()),
    _optional("content", _tagged(univ.Any(), 0, explicit=True)),
)
Attribute = _sequence(
    "Attribute", _required("type", univ.ObjectIdentifier()), _required("values", AnySet())
)
IssuerAndSerial = _sequence(
    "IssuerAndSerial", _required("issuer", univ.Any()), _required("serial", univ.Integer())
)
SignerInfo = _sequence(
    "SignerInfo",
    _required("version", univ.Integer()),
    _required("signer", IssuerAndSerial()),
    _required("digestAlgorithm", AlgorithmIdentifier()),
    _optional("signedAttributes", _tagged(AnySet(), 0)),
    _required("signatureAlgorithm", AlgorithmIdentifier()),
    _required("signature", univ.OctetString()),
    _optional("unsignedAttributes", _tagged(AnySet(), 1)),
)
SignedData = _sequence(
    "SignedData",
    _required("version", univ.Integer()),
    _required("digestAlgorithms", AnySet()),
    _required("content", ContentInfo()),
    _optional("certificates", _tagged(AnySet(), 0)),
    _optional("revocations", _tagged(AnySet(), 1)),
    _required("signers", type("Signers", (univ.SetOf,), {"componentType": SignerInfo()})()),
)
DigestInfo = _sequence(
    "DigestInfo",
    _required("digestAlgorithm", AlgorithmIdentifier()),
    _required("digest", univ.OctetString()),
)
SpcIndirectData = _sequence(
    "SpcIndirectData", _required("data", univ.Any()), _required("messageDigest", DigestInfo())
)
TrustedSubject = _sequence(
    "TrustedSubject",
    _required("identifier", univ.OctetString()),
    _optional("attributes", type("Attributes", (univ.SetOf,), {"componentType": Attribute()})()),
)
TrustList = _sequence(
    "TrustList",
    _required("usage", AnySequence()),
    _optional("identifier", univ.OctetString()),
    _required("thisUpdate", useful.UTCTime()),
    _required("algorithm", AlgorithmIdentifier()),
    _required(
        "subjects", type("Subjects", (univ.SequenceOf,), {"componentType": TrustedSubject()})()
    ),
    _optional("extensions", _tagged(univ.Any(), 0, explicit=True)),
)
MessageImprint = _sequence(
    "MessageImprint",
    _required("hashAlgorithm", AlgorithmIdentifier()),
    _required("hashedMessage", univ.OctetString()),
)
TimeStamp = _sequence(
    "TimeStamp",
    _required("version", univ.Integer()),
    _required("policy", univ.ObjectIdentifier()),
    _required("messageImprint", MessageImprint()),
    _required("serialNumber", univ.Integer()),
    _required("genTime", useful.GeneralizedTime()),
    _optional("accuracy", AnySequence()),
    _optional("ordering", univ.Boolean()),
    _optional("nonce", univ.Integer()),
    _optional("authority", _tagged(univ.Any(), 0, explicit=True)),
    _optional("extensions", _tagged(AnySequence(), 1)),
)


def decode(data: bytes, specification: T, where: str) -> T:
    """Decode the DER structure at the start of `data`. Raises Corrupt, naming `where`."""
    if len(data) > MAX_STRUCTURE_SIZE:
        raise Corrupt(f"{where}: a structure of {len(data)} bytes", hint=_DAMAGED)
    try:
        return _decode(data, asn1Spec=specification)[0]  # type: ignore[no-any-return]
    except (PyAsn1Error, RecursionError, ValueError, TypeError, IndexError, KeyError):
        name = type(specification).__name__
        raise Corrupt(f"{where}: damaged ASN.1 ({name})", hint=_DAMAGED) from None


def encode_set(values: univ.SetOf) -> bytes:
    """Encode attributes as SET OF in DER: the signature covers this form (RFC 5652, 5.4)."""
    plain = AnySet()
    plain.extend([univ.Any(bytes(value)) for value in values])
    return _encode(plain)  # type: ignore[no-any-return]


def contents_octets(data: bytes, where: str) -> bytes:
    """Return the contents octets of an element, without tag and length (X.690, 8.1)."""
    if len(data) >= 2:
        length, start = data[1], 2
        if length & 0x80:
            start = 2 + (length & 0x7F)
            length = int.from_bytes(data[2:start], "big")
        if len(data) >= start + length and start <= 6:
            return data[start : start + length]
    raise Corrupt(f"{where}: damaged ASN.1", hint=_DAMAGED)
