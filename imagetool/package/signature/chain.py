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

from imagetool.errors import Corrupt
from imagetool.package.signature import der
from imagetool.package.signature.certificates import (
    CODE_SIGNING,
    TIME_STAMPING,
    WINDOWS_COMPONENT,
    Untrusted,
    common_name,
    extension,
    is_signed_by,
    microsoft_roots,
    serial_number,
    usages,
)
from imagetool.package.signature.signed_data import Altered

_MAX_CHAIN_LENGTH = 8
_MAX_STEPS = 100
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


_LIMITS = {
    x509.ObjectIdentifier("1.3.6.1.5.5.7.1.7"),  # blocks of addresses (RFC 3779)
    x509.ObjectIdentifier("1.3.6.1.5.5.7.1.8"),  # autonomous systems
    x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14"),  # proxies (RFC 3820)
}
"""Extensions that bound what a certificate is for, and are not understood here."""
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
    certificates: Sequence[x509.Certificate], *chains: Sequence[x509.Certificate]
) -> None:
    """Check that every certificate is in one of these chains, which hold: any other is a payload.

    Raises Altered.
    """
    for item in certificates:
        if not any(item in chain for chain in chains):
            raise Altered(f"the certificate of {common_name(item)} belongs to no signature")


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
        named = list(_named_issuers(current, candidates))
        steps += 1 + len(named)  # of which each costs the check of a signature
        if steps > _MAX_STEPS:
            raise Untrusted(f"the certificates of {common_name(signer)} lead nowhere in particular")
        if current in roots and current.subject == current.issuer:
            yield chain
        elif len(chain) < _MAX_CHAIN_LENGTH:
            found = [item for item in _issuers(current, named) if item not in chain]
            waiting += [(*chain, item) for item in reversed(found)]


def _issuers(
    certificate: x509.Certificate, candidates: Sequence[x509.Certificate]
) -> Iterator[x509.Certificate]:
    algorithm = certificate.signature_hash_algorithm
    for candidate in _named_issuers(certificate, candidates):
        if algorithm is not None and is_signed_by(
            candidate, certificate.signature, certificate.tbs_certificate_bytes, algorithm
        ):
            yield candidate


def _named_issuers(
    certificate: x509.Certificate, candidates: Sequence[x509.Certificate]
) -> Iterator[x509.Certificate]:
    for candidate in candidates:
        if (
            candidate.subject == certificate.issuer
            and candidate != certificate
            and _is_named(candidate, certificate)
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
    return serial is None or serial == serial_number(issuer)


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
        if item is not chain[-1] and item.subject == item.issuer and _is_named(item, item):
            raise Untrusted(f"{common_name(item)} is issued under its own name, as only roots are")
        _check_time(item, at)
        _check_extensions(item)
        if index:
            is_old_root = item is chain[-1] and _is_old_root(item, trust)
            _check_authority(item, below, needed, is_old_root=is_old_root)
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
        if (item.critical and item.oid not in _KNOWN_EXTENSIONS) or item.oid in _LIMITS:
            critical = "critical " if item.critical else ""
            raise Untrusted(
                f"{common_name(certificate)} has the {critical}extension "
                f"{item.oid.dotted_string}, which is not understood"
            )
        if item.oid == _NETSCAPE_TYPE and not _is_bit_string(item.value):
            raise Untrusted(f"{common_name(certificate)} has a malformed extension")


def _is_bit_string(value: x509.ExtensionType) -> bool:
    data = value.value if isinstance(value, x509.UnrecognizedExtension) else b""
    try:
        return der.parse(data, der.BIT_STRING, "") is not None
    except Corrupt:
        return False


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


def _is_old_root(root: x509.Certificate, trust: Trust) -> bool:
    """True for roots that need no basic constraints: Microsoft's own, and those of version 1."""
    return root in trust.roots or root.version is x509.Version.v1


def _check_authority(
    certificate: x509.Certificate,
    below: int,
    needed: set[x509.ObjectIdentifier],
    *,
    is_old_root: bool,
) -> None:
    usage = extension(certificate, x509.KeyUsage)
    may_not_sign = usage is not None and not usage.key_cert_sign
    constraints = extension(certificate, x509.BasicConstraints)
    if may_not_sign or not (constraints.ca if constraints else is_old_root):
        raise Untrusted(f"{common_name(certificate)} may not issue certificates")
    if constraints and constraints.path_length is not None and constraints.path_length < below:
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
