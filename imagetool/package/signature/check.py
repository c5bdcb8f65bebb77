"""Verification of a package: the cabinet's signature, its catalog, and the digest of every file.

The signed catalog lists the digests of update.mum and every manifest, each manifest those of its
files. A file that is in no list makes the package altered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from imagetool.contracts import Reportable, Source
from imagetool.errors import Corrupt, NotFound
from imagetool.package.signature import asn1
from imagetool.package.signature.catalog import Catalog
from imagetool.package.signature.certificates import Untrusted, microsoft_roots
from imagetool.package.signature.signed_data import Altered, SignedData, Signer

if TYPE_CHECKING:
    from cryptography import x509

    from imagetool.package.media import Media, Package

CATALOG = "update.cat"
_CHUNK = 1 << 20


class Judgement(Enum):
    """The result of a check, from best to worst."""

    GENUINE = "genuine"
    UNKNOWN_SIGNER = "unknown signer"
    UNSIGNED = "unsigned"
    ALTERED = "altered"


_BY_SEVERITY = list(Judgement)


class Finding(NamedTuple):
    """The result of one check: its subject (cabinet, update.cat, content), judgement, reason."""

    subject: str
    judgement: Judgement
    reason: str
    signer: Signer | None = None


@dataclass(frozen=True, slots=True, repr=False)
class PackageReport(Reportable):
    """All findings about a package."""

    package: str
    findings: tuple[Finding, ...]

    @property
    def judgement(self) -> Judgement:
        """The worst judgement of the findings."""
        return max((item.judgement for item in self.findings), key=_BY_SEVERITY.index)

    @property
    def holds(self) -> bool:
        """True if the package is genuine."""
        return self.judgement is Judgement.GENUINE

    def __repr__(self) -> str:
        return f"PackageReport({self.package!r}, {self.judgement.value!r})"


@dataclass(frozen=True, slots=True)
class MediaReport(Reportable):
    """The findings about all packages of a disc, cabinet or folder."""

    media: str
    packages: tuple[PackageReport, ...]

    @property
    def holds(self) -> bool:
        """True if every package is genuine."""
        return all(item.holds for item in self.packages)


def check_media(media: Media, trusted: Sequence[x509.Certificate] = ()) -> MediaReport:
    """Check all packages of a medium, as check_package."""
    reports = tuple(check_package(package, trusted) for package in media.packages)
    return MediaReport(media.name, reports)


def check_package(package: Package, trusted: Sequence[x509.Certificate] = ()) -> PackageReport:
    """Check a package; `trusted` are roots beside Microsoft's. Raises Corrupt, Unsupported."""
    roots = (*microsoft_roots(), *trusted)
    _ = package.identity  # raises Corrupt: a package needs an identity
    findings = []
    if package.cabinet is not None:
        findings.append(_check_cabinet(package, roots))
    catalog, finding = _check_catalog(package, roots)
    findings.append(finding)
    if catalog is not None:
        findings += _check_content(package, catalog)
    return PackageReport(package.name, tuple(findings))


def check_signature(package: Package, trusted: Sequence[x509.Certificate] = ()) -> Finding:
    """Check one signature: the cabinet's, or a folder's catalog; `trusted` as check_package."""
    roots = (*microsoft_roots(), *trusted)
    if package.cabinet is not None:
        return _check_cabinet(package, roots)
    return _check_catalog(package, roots)[1]


def _read_signature(package: Package) -> SignedData | None:
    """Read the signature that follows the cabinet (Authenticode); None if unsigned."""
    cabinet, source = package.cabinet, package.source
    if cabinet is None or source is None or cabinet.signature_range is None:
        return None
    data = source.read_at(*cabinet.signature_range)
    return SignedData(data, f"{package.name}: signature")


def read_digest_algorithms(package: Package) -> tuple[str, ...]:
    """Return the digest algorithms of a cabinet's signatures; a guest must support one."""
    found: list[str] = []
    signed = _read_signature(package)
    if signed is not None:
        found = [
            signed.digest_algorithm,
            *(item.digest_algorithm for item in signed.nested_signatures()),
        ]
    return tuple(dict.fromkeys(found))


def _check_cabinet(package: Package, roots: Sequence[x509.Certificate]) -> Finding:
    subject = "cabinet"
    try:
        signed = _read_signature(package)
        if signed is None:
            return Finding(subject, Judgement.UNSIGNED, "no signature follows the cabinet")
        signer = _verify_cabinet(package, signed, roots)
        others = [
            _verify_cabinet(package, item, roots).digest_algorithm
            for item in signed.nested_signatures()
        ]
        also = f", and with {', '.join(others)}" if others else ""
        return Finding(
            subject, Judgement.GENUINE, f"signed with {signer.digest_algorithm}{also}", signer
        )
    except (Altered, Corrupt) as error:
        return Finding(subject, Judgement.ALTERED, _message(error))
    except Untrusted as error:
        return Finding(subject, Judgement.UNKNOWN_SIGNER, str(error))


def _verify_cabinet(
    package: Package, signed: SignedData, roots: Sequence[x509.Certificate]
) -> Signer:
    assert package.cabinet is not None
    assert package.cabinet.signature_range is not None
    assert package.source is not None
    if signed.content_type != asn1.SPC_INDIRECT_DATA:
        raise Altered("the signature is not one of a file")
    end = sum(package.cabinet.signature_range)
    if end != package.source.size:
        raise Altered(f"{package.source.size - end} bytes follow the signature")
    content = asn1.decode(signed.content, asn1.SpcIndirectData(), signed.where)
    stated = bytes(content["messageDigest"]["digest"])
    algorithm = signed.digest_algorithm
    if cabinet_digest(package.source, package.cabinet.signature_range[0], algorithm) != stated:
        raise Altered("the cabinet is not what was signed")
    return signed.verify(roots)


def cabinet_digest(source: Source, end: int, algorithm: str) -> bytes:
    """Compute the Authenticode digest of a cabinet that ends at offset `end`.

    Skipped are the fields that signing writes: the first reserved field, the cabinet's number in
    its set, and the offset and size of the signature in the header's reserve.
    """
    digest = hashlib.new(algorithm)
    for start, length in ((0, 4), (8, 26), (56, 4)):
        digest.update(source.read_at(start, length))
    for offset in range(60, end, _CHUNK):
        digest.update(source.read_at(offset, min(_CHUNK, end - offset)))
    return digest.digest()


def _check_catalog(
    package: Package, roots: Sequence[x509.Certificate]
) -> tuple[Catalog | None, Finding]:
    try:
        catalog = Catalog.parse(package.read(CATALOG), f"{package.name}: {CATALOG}")
        signer = catalog.signed_data.verify(roots)
    except NotFound:
        return None, Finding(CATALOG, Judgement.UNSIGNED, "there is no catalog")
    except Corrupt as error:
        return None, Finding(CATALOG, Judgement.UNSIGNED, f"no signed catalog: {error.message}")
    except Altered as error:
        return None, Finding(CATALOG, Judgement.ALTERED, str(error))
    except Untrusted as error:
        return catalog, Finding(CATALOG, Judgement.UNKNOWN_SIGNER, str(error))
    return catalog, Finding(
        CATALOG, Judgement.GENUINE, f"lists {len(catalog.digests)} digests", signer
    )


def _check_content(package: Package, catalog: Catalog) -> Iterator[Finding]:
    """Check that the catalog, or a manifest that it lists, has the digest of every file."""
    members = {member.name.lower(): member.name for member in package.members()}
    vouched = {CATALOG}
    problems = []
    for lower, name in members.items():
        if "/" in name or not lower.endswith((".mum", ".manifest")):
            continue
        data = package.read(name)
        vouched.add(lower)
        digests = {hashlib.new(kind, data).digest() for kind in ("sha1", "sha256")}
        if not digests & catalog.digests:
            problems.append(f"{name} is not in the catalog")
    for component in package.components():
        for file in component.manifest.files:
            path = f"{component.directory}/{file.name}".replace("\\", "/")
            lower = path.lower()
            if lower not in members:
                problems.append(f"{path} is missing")
                continue
            vouched.add(lower)
            if not file.sha256:
                problems.append(f"{path}: its manifest states no SHA-256")
            elif hashlib.sha256(package.read(members[lower])).hexdigest() != file.sha256:
                problems.append(f"{path} has other bytes than its manifest states")
    problems += [f"{name} is in no list" for lower, name in members.items() if lower not in vouched]
    for reason in problems:
        yield Finding("content", Judgement.ALTERED, reason)
    if not problems:
        count = len(members)
        yield Finding("content", Judgement.GENUINE, f"all {count} files are as they were signed")


def _message(error: Altered | Corrupt) -> str:
    return error.message if isinstance(error, Corrupt) else str(error)
