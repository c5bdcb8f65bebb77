"""Authenticode: what a signature says about a file, and the digests of cabinets and programs.

Microsoft, "Windows Authenticode Portable Executable Signature Format", 1.0. What it does not say of
cabinets was learned from Microsoft's own packages, and agrees with osslsigncode.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import NamedTuple

from imagetool.contracts import Source
from imagetool.package.cab import Cabinet
from imagetool.package.signature import der
from imagetool.package.signature.signed_data import Altered, SignedData, digest_algorithm

SPC_INDIRECT_DATA = "1.3.6.1.4.1.311.2.1.4"
_SPC_PROGRAM = "1.3.6.1.4.1.311.2.1.15"
_SPC_CABINETS = {"1.3.6.1.4.1.311.2.1.25", "1.3.6.1.4.1.311.2.1.28"}
"""Cabinet data, and a link, which Microsoft's packages have in its stead."""
_CHUNK = 1 << 20
_ALIGNMENT = 8
_UNSIGNED_FIELDS = (
    ("the first reserved field", 4, bytes(4)),
    ("the number in a set", 34, bytes(2)),
    ("the size of the header's reserve", 36, struct.pack("<H", 20)),
    ("the size of the folders' reserve", 38, bytes(1)),
    ("the size of the blocks' reserve", 39, bytes(1)),
    ("the kind of the reserve", 40, struct.pack("<HH", 0, 16)),
    ("the end of the reserve", 52, bytes(4)),
)
"""The header fields that no digest covers, each with the one value of a signed cabinet."""


class IndirectData(NamedTuple):
    """SpcIndirectDataContent: the digest of a file, and what kind of file it is of."""

    kind: str
    algorithm: str
    digest: bytes

    @property
    def is_program(self) -> bool:
        """True if it is the digest of a program, which leaves the program's signature out."""
        return self.kind == _SPC_PROGRAM

    @classmethod
    def parse(cls, element: der.Element) -> IndirectData:
        """Parse one element. Raises Corrupt."""
        fields = element.fields()
        kind = der.identifier(fields.take(der.SEQUENCE).fields().take(der.IDENTIFIER))
        info = fields.take(der.SEQUENCE).fields()
        fields.end()
        algorithm = digest_algorithm(info.take(der.SEQUENCE))
        digest = info.take(der.OCTET_STRING).contents
        info.end()
        return cls(kind, algorithm, digest)


def read_signature(cabinet: Cabinet, source: Source, where: str) -> SignedData | None:
    """Read the signature that follows a cabinet; None if it has none.

    Raises Altered for bytes that belong to neither, Corrupt for a damaged signature.
    """
    if cabinet.signature_range is None:
        return None
    start, size = cabinet.signature_range
    data = source.read_at(start, min(size, der.MAX_STRUCTURE_SIZE + _ALIGNMENT))
    element = der.parse_first(data[: der.MAX_STRUCTURE_SIZE], der.SEQUENCE, where)
    padding = data[element.end :]
    if len(padding) >= _ALIGNMENT or any(padding):
        raise Altered(f"{size - element.end} bytes behind the signature count as part of it")
    return SignedData(element)


def check_cabinet(cabinet: Cabinet, source: Source, signed: SignedData) -> None:
    """Check that a cabinet is what was signed. Raises Altered, Corrupt."""
    assert cabinet.signature_range is not None
    start, size = cabinet.signature_range
    if signed.content_type != SPC_INDIRECT_DATA:
        raise Altered("the signature is not one of a file")
    if start + size != source.size:
        raise Altered(f"{source.size - start - size} bytes follow the signature")
    for reason in _wrong_fields(source, start):
        raise Altered(reason)
    content = IndirectData.parse(signed.content)
    if content.kind not in _SPC_CABINETS:
        raise Altered("the signature is not one of a cabinet")
    if content.algorithm != signed.digest_algorithm:
        raise Altered(f"the digest is {content.algorithm}, and not that of the signature")
    if cabinet_digest(source, start, content.algorithm) != content.digest:
        raise Altered("the cabinet is not what was signed")


def _wrong_fields(source: Source, signature_offset: int) -> Iterator[str]:
    header = source.read_at(0, 60)
    for name, offset, value in _UNSIGNED_FIELDS:
        if header[offset : offset + len(value)] != value:
            yield f"{name} (offset {offset}), which no digest covers, is not as signing leaves it"
    if int.from_bytes(header[8:12], "little") != signature_offset:
        yield "the signature does not begin where the cabinet ends"


def cabinet_digest(source: Source, end: int, algorithm: str) -> bytes:
    """Compute the Authenticode digest of a cabinet that ends at offset `end`.

    Skipped are the fields that signing writes: the first reserved field, the cabinet's number in
    its set, and the header's reserve with the offset and size of the signature.
    """
    digest = hashlib.new(algorithm)
    for start, length in ((0, 4), (8, 26), (56, 4)):
        digest.update(source.read_at(start, length))
    for offset in range(60, end, _CHUNK):
        digest.update(source.read_at(offset, min(_CHUNK, end - offset)))
    return digest.digest()


def program_digest(data: bytes, algorithm: str) -> bytes | None:
    """Compute the Authenticode digest of a program in the PE format; None for another file.

    Skipped are the checksum, the place of the program's own signature, and this signature.
    """
    try:
        header = struct.unpack_from("<I", data, 60)[0]
        if data[:2] != b"MZ" or data[header : header + 4] != b"PE\0\0":
            return None
        optional = header + 24
        wide = struct.unpack_from("<H", data, optional)[0] == 0x20B
        security = optional + (144 if wide else 128)  # the fifth of the data directories
        offset, size = struct.unpack_from("<II", data, security)
    except struct.error:
        return None
    end = offset or len(data)
    digest = hashlib.new(algorithm)
    for part in (data[: optional + 64], data[optional + 68 : security], data[security + 8 : end]):
        digest.update(part)
    rest = data[offset + size :] if offset else b""
    digest.update(rest + bytes(-(end + len(rest)) % _ALIGNMENT if not offset else 0))
    return digest.digest()
