"""Verification of a package: the cabinet's signature, its catalog, and the digest of every file.

The signed catalog lists the digests of update.mum and every manifest, each manifest those of its
files. A file that is in no list makes the package altered.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from imagetool.contracts import Reportable
from imagetool.errors import Corrupt, ImagetoolError, NotFound, Unsupported
from imagetool.package.signature.authenticode import check_cabinet, read_signature
from imagetool.package.signature.catalog import Catalog
from imagetool.package.signature.certificates import Untrusted
from imagetool.package.signature.chain import Trust, trust_for_windows
from imagetool.package.signature.content import CATALOG, find_faults
from imagetool.package.signature.der import MAX_STRUCTURE_SIZE
from imagetool.package.signature.signed_data import Altered
from imagetool.package.signature.verify import Signer, verify_signature

if TYPE_CHECKING:
    from cryptography import x509

    from imagetool.package.media import Media, Package
    from imagetool.package.signature.signed_data import SignedData


class Judgement(Enum):
    """The result of a check, from best to worst."""

    GENUINE = "genuine"
    UNKNOWN_SIGNER = "unknown signer"
    UNSIGNED = "unsigned"
    ALTERED = "altered"
    UNREADABLE = "unreadable"
    """Of a package of a disc: it is damaged, or of a kind that is not read."""


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
    def worst(self) -> Finding:
        """The first finding of the worst judgement."""
        return max(self.findings, key=lambda item: _BY_SEVERITY.index(item.judgement))

    @property
    def judgement(self) -> Judgement:
        """The worst judgement of the findings."""
        return self.worst.judgement

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
    unchecked_files: int | None = None
    """On a disc, the number of its other files, of which nothing is said."""
    error: ImagetoolError | None = None
    """The failure for which nothing was checked."""
    started_at: datetime | None = field(default=None, compare=False)
    seconds: tuple[float, ...] = field(default=(), compare=False)
    """The time that each package took."""

    @property
    def holds(self) -> bool:
        """True if there is a package, and every package is genuine."""
        return bool(self.packages) and all(item.holds for item in self.packages)

    @property
    def exit_code(self) -> int:
        """0 where every package is genuine, 3 where one cannot be read, else 1."""
        if any(item.judgement is Judgement.UNREADABLE for item in self.packages):
            return Corrupt.exit_code
        return 0 if self.holds else 1


def check_media(media: Media, trusted: Sequence[x509.Certificate] = ()) -> MediaReport:
    """Check all packages of a medium, as check_package.

    One of a disc that check_package raises for is unreadable, and the others are judged.
    """
    started_at = datetime.now(UTC)
    reports, seconds = [], []
    with media.budget:
        for package in media.packages:
            begun = time.perf_counter()
            try:
                reports.append(check_package(package, trusted))
            except (Corrupt, Unsupported) as error:
                if media.disc is None:
                    raise
                reason = error.message.removeprefix(f"{media.disc.name}: ")
                finding = Finding("content", Judgement.UNREADABLE, reason)
                reports.append(PackageReport(package.name, (finding,)))
            seconds.append(time.perf_counter() - begun)
    unchecked = len(media.disc.files) - len(reports) if media.disc is not None else None
    return MediaReport(
        media.name, tuple(reports), unchecked, started_at=started_at, seconds=tuple(seconds)
    )


def check_package(package: Package, trusted: Sequence[x509.Certificate] = ()) -> PackageReport:
    """Check a package; `trusted` are roots beside Microsoft's.

    Raises Corrupt, Unsupported, BudgetSpent.
    """
    trust = trust_for_windows(trusted)
    with package.budget:
        return _check_package(package, trust)


def _check_package(package: Package, trust: Trust) -> PackageReport:
    _ = package.identity  # raises Corrupt: a package needs an identity
    findings = []
    if package.cabinet is not None:
        findings.append(_check_cabinet(package, trust))
    catalog, finding = _check_catalog(package, trust)
    findings.append(finding)
    if catalog is not None:
        findings += _check_content(package, catalog)
    findings += [Finding("disc", Judgement.UNSIGNED, doubt) for doubt in package.disc_doubts]
    return PackageReport(package.name, tuple(findings))


def check_signature(package: Package, trusted: Sequence[x509.Certificate] = ()) -> Finding:
    """Check one signature: the cabinet's, or a folder's catalog; `trusted` as check_package."""
    trust = trust_for_windows(trusted)
    if package.cabinet is not None:
        return _check_cabinet(package, trust)
    return _check_catalog(package, trust)[1]


def _read_signature(package: Package) -> SignedData | None:
    if package.cabinet is None or package.source is None:
        return None
    return read_signature(package.cabinet, package.source, f"{package.name}: signature")


def read_digest_algorithms(package: Package) -> tuple[str, ...]:
    """Return the digest algorithms of a cabinet's signatures; a guest must support one.

    Of a signature that cannot be read there are none: it is for `check_package` to judge.
    """
    try:
        signed = _read_signature(package)
        if signed is None:
            return ()
        nested = [item.digest_algorithm for item in signed.nested_signatures()]
        return tuple(dict.fromkeys([signed.digest_algorithm, *nested]))
    except (Altered, Corrupt):
        return ()


def _check_cabinet(package: Package, trust: Trust) -> Finding:
    subject, cabinet, source = "cabinet", package.cabinet, package.source
    assert cabinet is not None
    assert source is not None
    try:
        signed = _read_signature(package)
        if signed is None:
            return Finding(subject, Judgement.UNSIGNED, "no signature follows the cabinet")
        if cabinet.is_in_set:
            reason = "it is one cabinet of a set, whose other cabinets its signature does not cover"
            return Finding(subject, Judgement.UNSIGNED, reason)
        signers = []
        for item in (signed, *signed.nested_signatures()):
            check_cabinet(cabinet, source, item)
            signers.append(verify_signature(item, trust))
        others = ", ".join(item.digest_algorithm for item in signers[1:])
        also = f", and with {others}" if others else ""
        reason = f"signed with {signers[0].digest_algorithm}{also}"
        return Finding(subject, Judgement.GENUINE, reason, signers[0])
    except (Altered, Corrupt) as error:
        return Finding(subject, Judgement.ALTERED, _message(error))
    except Untrusted as error:
        return Finding(subject, Judgement.UNKNOWN_SIGNER, str(error))


def _check_catalog(package: Package, trust: Trust) -> tuple[Catalog | None, Finding]:
    catalog = None
    try:
        size = next((item.size for item in package.members() if item.name == CATALOG), 0)
        if size > MAX_STRUCTURE_SIZE:
            raise Corrupt(f"{package.name}: {CATALOG} has {size} bytes")
        catalog = Catalog.parse(package.read(CATALOG), f"{package.name}: {CATALOG}")
        signer = verify_signature(catalog.signed_data, trust)
    except NotFound:
        return None, Finding(CATALOG, Judgement.UNSIGNED, "there is no catalog")
    except Corrupt as error:
        judgement = Judgement.ALTERED if catalog else Judgement.UNSIGNED
        return None, Finding(CATALOG, judgement, f"no signed catalog: {error.message}")
    except Altered as error:
        return None, Finding(CATALOG, Judgement.ALTERED, str(error))
    except Untrusted as error:
        return catalog, Finding(CATALOG, Judgement.UNKNOWN_SIGNER, str(error))
    reason = f"lists {len(catalog.files)} digests"
    return catalog, Finding(CATALOG, Judgement.GENUINE, reason, signer)


def _check_content(package: Package, catalog: Catalog) -> Iterator[Finding]:
    faults = find_faults(package, catalog)
    for reason in faults:
        yield Finding("content", Judgement.ALTERED, reason)
    if not faults:
        count = len(package.members())
        yield Finding("content", Judgement.GENUINE, f"all {count} files are as they were signed")


def _message(error: Altered | Corrupt) -> str:
    return error.message if isinstance(error, Corrupt) else str(error)
