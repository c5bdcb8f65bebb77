"""Catalogs: signed certificate trust lists whose subjects are digests of files.

[MS-CAESO] and wincrypt.h, CTL_INFO; the entries were learned from Microsoft's own catalogs.
"""

from __future__ import annotations

from typing import NamedTuple

from imagetool.errors import Corrupt
from imagetool.package.signature import asn1
from imagetool.package.signature.signed_data import SignedData


class Catalog(NamedTuple):
    """A signed list of digests of files."""

    signed_data: SignedData
    digests: frozenset[bytes]

    @classmethod
    def parse(cls, data: bytes, where: str) -> Catalog:
        """Parse a catalog, such as update.cat. Raises Corrupt, naming `where`."""
        signed = SignedData(data, where)
        if signed.content_type != asn1.CERTIFICATE_TRUST_LIST:
            raise Corrupt(f"{where}: this signature holds no list of files")
        listed = asn1.decode(signed.content, asn1.TrustList(), where)
        digests: set[bytes] = set()
        for subject in listed["subjects"]:
            for attribute in subject["attributes"] if subject["attributes"].isValue else ():
                if str(attribute["type"]) != asn1.SPC_INDIRECT_DATA:
                    continue
                for value in attribute["values"]:
                    content = asn1.decode(bytes(value), asn1.SpcIndirectData(), where)
                    digests.add(bytes(content["messageDigest"]["digest"]))
        return cls(signed, frozenset(digests))
