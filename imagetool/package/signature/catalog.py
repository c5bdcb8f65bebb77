"""Catalogs: signed certificate trust lists whose subjects are digests of files.

[MS-CAESO] and wincrypt.h, CTL_INFO; the subjects were learned from Microsoft's own catalogs. Those
of version 1 are named by a SHA-1 in hexadecimal, those of version 2 by a SHA-256 beside one by its
SHA-1, which says nothing more; either holds the digest as SpcIndirectData.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from imagetool.errors import Corrupt
from imagetool.package.signature import der
from imagetool.package.signature.authenticode import SPC_INDIRECT_DATA, IndirectData
from imagetool.package.signature.signed_data import SignedData

_TRUST_LIST = "1.3.6.1.4.1.311.10.1"
_CATALOG_LIST = "1.3.6.1.4.1.311.12.1.1"
_MAX_SUBJECTS = 20_000


class ListedFile(NamedTuple):
    """A file that a catalog lists: the digest of a program leaves its own signature out."""

    is_program: bool
    algorithm: str
    digest: bytes


class Catalog(NamedTuple):
    """A signed list of files, by their digests."""

    signed_data: SignedData
    files: frozenset[ListedFile]

    @classmethod
    def parse(cls, data: bytes, where: str) -> Catalog:
        """Parse a catalog, such as update.cat. Raises Corrupt, naming `where`."""
        signed = SignedData(der.parse(data, der.SEQUENCE, where))
        if signed.content_type != _TRUST_LIST:
            raise Corrupt(f"{where}: this signature holds no list of files")
        if signed.signer.has_nested:
            raise Corrupt(f"{where}: a catalog has no signature within its signature")
        return cls(signed, frozenset(_listed_files(signed.content)))


def _listed_files(content: der.Element) -> Iterator[ListedFile]:
    fields = content.fields()
    usage = [der.identifier(item) for item in fields.take(der.SEQUENCE).elements(der.IDENTIFIER)]
    if usage != [_CATALOG_LIST]:
        raise Corrupt(f"{content.where}: this signed list is no catalog")
    fields.optional(der.OCTET_STRING)  # its own identifier
    fields.take(der.UTC_TIME)
    fields.take(der.SEQUENCE)  # how subjects are named
    subjects = fields.optional(der.SEQUENCE)
    fields.optional(der.context(0))  # extensions
    fields.end()
    for number, subject in enumerate(subjects.elements(der.SEQUENCE) if subjects else ()):
        if number == _MAX_SUBJECTS:
            raise Corrupt(f"{content.where}: the catalog lists more than {_MAX_SUBJECTS} files")
        parts = subject.fields()
        parts.take(der.OCTET_STRING)
        attributes = parts.optional(der.SET)
        for attribute in attributes.elements(der.SEQUENCE) if attributes else ():
            pair = attribute.fields()
            if der.identifier(pair.take(der.IDENTIFIER)) == SPC_INDIRECT_DATA:
                for value in pair.take(der.SET).elements():
                    found = IndirectData.parse(value)
                    yield ListedFile(found.is_program, found.algorithm, found.digest)
