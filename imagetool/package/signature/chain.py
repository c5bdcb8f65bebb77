"""Certificate chains up to a trusted root (RFC 5280, section 6).

Policies are not asked for. Name constraints count for names of directories; a certificate with
others is not trusted. The extended key usages of an authority bound those below it, as in Windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from imagetool.package.signature.certificates import (
    CODE_SIGNING,
    TIME_STAMPING,
    WINDOWS_COMPONENT,
    Untrusted,
    common_name,
    extension,
    is_signed_by,
    microsoft_roots,
    usages,
)
from imagetool.package.signature.signed_data import Altered

_MAX_CHAIN_LENGTH = 8
_MAX_STEPS = 256
_ANY_USAGE = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
_ACTIONS = {CODE_SIGNING: "sign programs", TIME_STAMPING: "confirm times"}
_KNOWN_EXTENSIONS = {
    x509.BasicConstraints.oid,
    x509.KeyUsage.oid,
    x509.ExtendedKeyUsage.oid,
    x509.SubjectAlternativeName.oid,
    x509.CertificatePolicies.oid,
    x509.NameConstraints.oid,
}
"""The extensions that may be critical."""


_NETSCAPE_TYPE = x509.ObjectIdentifier("2.16.840.1.113730.1.1")


class Trust(NamedTuple):
    """Who may sign: under Microsoft's roots only who has a certain key usage."""

    roots: tuple[x509.Certificate, ...]
    """Microsoft's roots."""
    usage: x509.ObjectIdentifier
    """The key usage that a signer under Microsoft's roots must have."""
    named: tuple[x509.Certificate, ...] = ()
    """Roots that the user names; whoever may sign programs under them is trusted."""


def trust_for_windows(named: Sequence[x509.Certificate] = ()) -> Trust:
    """Return the trust that a package of Windows itself needs."""
    return Trust(microsoft_roots(), WINDOWS_COMPONENT, tuple(named))


def check_chain(
    signer: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    trust: Trust,
    at: datetime,
    purpose: x509.ObjectIdentifier,
) -> tuple[x509.Certificate, ...]:
    """Build the chain from the signer to a trusted root, all certificates valid at the time `at`.

    `purpose` is the extended key usage that the signer must have. Where several chains exist, one
    that holds suffices. Raises Untrusted.
    """
    roots = (*trust.roots, *trust.named)
    reasons: list[Untrusted] = []
    for chain in _chains(signer, [*roots, *intermediates], roots):
        try:
            _check_path(chain, trust, at, purpose)
        except Untrusted as error:
            reasons.append(error)
        else:
            return chain
    if reasons:
        raise reasons[0]
    end = signer
    seen = [signer]
    while (issuer := next(_issuers(end, intermediates), None)) and issuer not in seen:
        seen.append(issuer)
        end = issuer
    raise Untrusted(f"the chain of {common_name(signer)} ends at {common_name(end)}, no known root")


def check_certificates(
    certificates: Sequence[x509.Certificate], signers: Sequence[x509.Certificate], trust: Trust
) -> None:
    """Check that every certificate is a signer's, or issued one, and was issued itself.

    Any other is a payload: whoever has the public key of an authority can make certificates with
    it, and fill what nobody signed. Raises Altered.
    """
    known = [*certificates, *trust.roots, *trust.named]
    needed, waiting = list(signers), list(signers)
    while waiting:
        for issuer in _issuers(waiting.pop(), certificates):
            if issuer not in needed:
                needed.append(issuer)
                waiting.append(issuer)
    for item in certificates:
        if item not in needed:
            raise Altered(f"the certificate of {common_name(item)} belongs to no signature")
        if not any(_issuers(item, known)) and not _is_self_signed(item):
            raise Altered(f"nobody vouches for the certificate of {common_name(item)}")


def _is_self_signed(certificate: x509.Certificate) -> bool:
    algorithm = certificate.signature_hash_algorithm
    return (
        algorithm is not None
        and certificate.subject == certificate.issuer
        and is_signed_by(
            certificate, certificate.signature, certificate.tbs_certificate_bytes, algorithm
        )
    )


def _chains(
    signer: x509.Certificate,
    candidates: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
) -> Iterator[tuple[x509.Certificate, ...]]:
    """Find the chains that end at a root, the certificates' own order first."""
    waiting: list[tuple[x509.Certificate, ...]] = [(signer,)]
    steps = 0
    while waiting:
        chain = waiting.pop()
        current = chain[-1]
        steps += 1
        if steps > _MAX_STEPS:
            raise Untrusted(f"the certificates of {common_name(signer)} lead nowhere in particular")
        if current in roots and current.subject == current.issuer:
            yield chain
        elif len(chain) < _MAX_CHAIN_LENGTH:
            found = [item for item in _issuers(current, candidates) if item not in chain]
            waiting += [(*chain, item) for item in reversed(found)]


def _issuers(
    certificate: x509.Certificate, candidates: Sequence[x509.Certificate]
) -> Iterator[x509.Certificate]:
    algorithm = certificate.signature_hash_algorithm
    for candidate in candidates:
        if (
            algorithm is not None
            and candidate.subject == certificate.issuer
            and candidate != certificate
            and _is_named(candidate, certificate)
            and is_signed_by(
                candidate, certificate.signature, certificate.tbs_certificate_bytes, algorithm
            )
        ):
            yield candidate


def _is_named(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    """True unless the certificate names another key or certificate as its issuer's."""
    named = extension(certificate, x509.AuthorityKeyIdentifier)
    own = extension(issuer, x509.SubjectKeyIdentifier)
    if named is None:
        return True
    if named.key_identifier is not None and own is not None and own.digest != named.key_identifier:
        return False
    for name in named.authority_cert_issuer or ():
        if isinstance(name, x509.DirectoryName) and name.value != issuer.issuer:
            return False
    serial = named.authority_cert_serial_number
    return serial is None or serial == issuer.serial_number


def _check_path(
    chain: tuple[x509.Certificate, ...],
    trust: Trust,
    at: datetime,
    purpose: x509.ObjectIdentifier,
) -> None:
    signer, authorities = chain[0], chain[1:]
    needed = {purpose}
    if purpose == CODE_SIGNING and chain[-1] in trust.roots:
        needed.add(trust.usage)
    _check_signer(signer, purpose, needed)
    below = 0
    for index, item in enumerate(chain):
        _check_time(item, at)
        _check_extensions(item)
        if index:
            is_root = index == len(chain) - 1
            _check_authority(item, below, needed, is_known_root=is_root and item in trust.roots)
            _check_names(item, chain[:index])
            below += item.subject != item.issuer
    if not authorities and signer not in trust.named:
        raise Untrusted(f"{common_name(signer)} is a root, and signed itself")


def _check_time(certificate: x509.Certificate, at: datetime) -> None:
    if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        raise Untrusted(
            f"{common_name(certificate)} is valid from "
            f"{certificate.not_valid_before_utc:%Y-%m-%d} to "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}, not on {at.astimezone(UTC):%Y-%m-%d}"
        )


def _check_extensions(certificate: x509.Certificate) -> None:
    for item in certificate.extensions:
        if item.oid == _NETSCAPE_TYPE and not _is_bit_string(item.value.public_bytes()):
            raise Untrusted(f"{common_name(certificate)} has a damaged extension")
        if item.critical and item.oid not in _KNOWN_EXTENSIONS:
            raise Untrusted(
                f"{common_name(certificate)} has the critical extension "
                f"{item.oid.dotted_string}, which is not understood"
            )


def _is_bit_string(raw: bytes) -> bool:
    """True for a BIT STRING of one byte or two (what OpenSSL takes of the old extension)."""
    return raw[:1] == b"\x03" and len(raw) in (4, 5) and raw[1] == len(raw) - 2 and raw[2] < 8


def _check_signer(
    signer: x509.Certificate,
    purpose: x509.ObjectIdentifier,
    needed: set[x509.ObjectIdentifier],
) -> None:
    found = usages(signer)
    for usage in (purpose, *(needed - {purpose})):
        if usage not in found:
            action = _ACTIONS.get(usage, "sign Windows itself")
            raise Untrusted(f"{common_name(signer)} may not {action}")
    if purpose == TIME_STAMPING and len(found) > 1:  # RFC 3161, 2.3
        raise Untrusted(f"{common_name(signer)} may do more than confirm times")
    usage_of_key = extension(signer, x509.KeyUsage)
    if usage_of_key is not None and not usage_of_key.digital_signature:
        raise Untrusted(f"the key of {common_name(signer)} is not one for signatures")


def _check_authority(
    certificate: x509.Certificate,
    below: int,
    needed: set[x509.ObjectIdentifier],
    *,
    is_known_root: bool,
) -> None:
    usage = extension(certificate, x509.KeyUsage)
    may_not_sign = usage is not None and not usage.key_cert_sign
    constraints = extension(certificate, x509.BasicConstraints)
    if constraints is None and is_known_root and not may_not_sign:
        return  # the oldest of Microsoft's roots have no such extension
    if constraints is None or not constraints.ca or may_not_sign:
        raise Untrusted(f"{common_name(certificate)} may not issue certificates")
    if constraints.path_length is not None and constraints.path_length < below:
        raise Untrusted(f"{common_name(certificate)} may not stand so far from the signer")
    allowed = usages(certificate)
    if allowed and _ANY_USAGE not in allowed and not needed <= allowed:
        raise Untrusted(f"{common_name(certificate)} may not issue certificates for this purpose")


def _check_names(issuer: x509.Certificate, below: Sequence[x509.Certificate]) -> None:
    constraints = extension(issuer, x509.NameConstraints)
    if constraints is None:
        return
    permitted, excluded = constraints.permitted_subtrees, constraints.excluded_subtrees
    if not all(isinstance(item, x509.DirectoryName) for item in (*(permitted or ()),
                                                                 *(excluded or ()))):  # fmt: skip
        raise Untrusted(f"{common_name(issuer)} constrains names in a way that is not understood")
    for item in below:
        for name in _directory_names(item):
            inside = [
                [name[: len(tree.value.rdns)] == _canonical(tree.value) for tree in trees]
                for trees in (permitted or (), excluded or ())
            ]
            if (permitted and not any(inside[0])) or any(inside[1]):
                raise Untrusted(f"{common_name(issuer)} may not issue for {common_name(item)}")


def _directory_names(certificate: x509.Certificate) -> list[list[frozenset[str]]]:
    alternative = extension(certificate, x509.SubjectAlternativeName)
    others = alternative.get_values_for_type(x509.DirectoryName) if alternative else []
    return [_canonical(name) for name in (certificate.subject, *others)]


def _canonical(name: x509.Name) -> list[frozenset[str]]:
    """Return what counts of a name: its parts without case and repeated spaces (RFC 5280, 7.1)."""
    return [
        frozenset(
            f"{part.oid.dotted_string}={' '.join(str(part.value).lower().split())}" for part in rdn
        )
        for rdn in name.rdns
    ]
