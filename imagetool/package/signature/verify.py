"""Verification of a signature: the signer, its chain, and the time that counts for them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from imagetool.package.signature.certificates import (
    CODE_SIGNING,
    LIFETIME_SIGNING,
    common_name,
    usages,
)
from imagetool.package.signature.chain import Trust, check_certificates, check_chain
from imagetool.package.signature.signed_data import SignedData
from imagetool.package.signature.time_stamps import read_stamp


class Signer(NamedTuple):
    """The signer, its root, the time (None: not countersigned) and the digest algorithm."""

    name: str
    root: str
    signed_at: datetime | None
    digest_algorithm: str


def verify_signature(signed: SignedData, trust: Trust, now: datetime | None = None) -> Signer:
    """Verify a signature and its chain; return the signer.

    The certificates must have been valid at the time of the time stamp; without one, or if the
    signer's certificate says so, they must be valid now. Raises Altered, Untrusted, Corrupt.
    """
    certificate = signed.verify_signer()
    stamp = read_stamp(signed, trust)
    at = stamp.at if stamp and LIFETIME_SIGNING not in usages(certificate) else None
    valid_at = at or now or datetime.now(UTC)
    chain = check_chain(certificate, signed.certificates, trust, valid_at, CODE_SIGNING)
    check_certificates(signed.certificates, chain, stamp.chain if stamp else ())
    return Signer(common_name(certificate), common_name(chain[-1]), at, signed.digest_algorithm)
