"""Genuine, altered, unsigned, unknown: Microsoft's packages, and ours by osslsigncode."""

from __future__ import annotations

import random
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures import guests
from fixtures.cabinets import MSZIP, write_cabinet
from fixtures.guests import cached_guest
from fixtures.packages import package_files
from fixtures.signing import catalog, make_authority, sign, signed_files
from imagetool.errors import Corrupt, ImagetoolError, NotRecognised
from imagetool.guest.image import open_image
from imagetool.package import open_package
from imagetool.package.signature import der
from imagetool.package.signature.catalog import Catalog
from imagetool.package.signature.certificates import CODE_SIGNING, Untrusted, read_roots
from imagetool.package.signature.chain import check_chain, trust_for_windows
from imagetool.package.signature.check import Judgement, PackageReport, check_package
from imagetool.package.signature.signed_data import Altered, SignedData
from imagetool.package.signature.verify import verify_signature
from imagetool.verdict.applicability import Rule, choose
from imagetool.verdict.verify import read_evidence
from tests.program import refused, run

Roots = tuple[x509.Certificate, ...]


class Signed:
    """Packages under a test root, signed once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_authority(folder)
        self.root = folder / "root.pem"
        self.roots = read_roots(self.root)
        self.files = signed_files(folder, folder, package_files("6.2", "amd64"))
        self.plain = self.write("plain.cab", self.files)
        self.cab = folder / "signed.cab"
        sign(folder, self.plain, self.cab)

    def write(self, name: str, files: dict[str, bytes]) -> Path:
        path = self.folder / name
        path.write_bytes(write_cabinet(files, MSZIP))
        return path

    def signed(self, name: str, files: dict[str, bytes]) -> Path:
        """A cabinet with these files, its own signature right."""
        target = self.folder / f"signed-{name}"
        target.unlink(missing_ok=True)
        sign(self.folder, self.write(name, files), target)
        return target


@pytest.fixture(scope="module")
def signed(oracle: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Signed:
    oracle("osslsigncode")
    return Signed(tmp_path_factory.mktemp("signed"))


def checked(path: Path, roots: Roots = ()) -> PackageReport:
    with open_package(path) as media:
        return check_package(media.packages[0], roots)


def says(result: PackageReport) -> str:
    return " | ".join(item.reason for item in result.findings)


def osslsigncode(path: Path, root: Path) -> bool:
    """Whether osslsigncode believes a cabinet or catalog under this root."""
    done = subprocess.run(
        ["osslsigncode", "verify", "-CAfile", root, "-in", path],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 0 and "Signature verification: ok" in done.stdout


def test_microsofts_own_packages_are_genuine(real_packages: Path) -> None:
    names = sorted(real_packages.glob("*.cab"))
    assert len(names) == 4
    for path in names:
        result = checked(path)
        assert result.judgement is Judgement.GENUINE, says(result)
        cabinet, listed, content = result.findings
        assert cabinet.signer is not None
        assert cabinet.signer.name == "Microsoft Windows"
        assert cabinet.signer.signed_at is not None
        assert (cabinet.signer.signed_at.year, cabinet.signer.signed_at.month) == (2017, 5)
        assert "sha1, and with sha256" in cabinet.reason
        assert listed.signer is not None
        assert "all " in content.reason


def test_one_byte_of_a_real_package_decides(real_packages: Path, tmp_path: Path) -> None:
    path = min(real_packages.glob("*.cab"))
    data = bytearray(path.read_bytes())
    data[200_000] ^= 1
    copy = tmp_path / path.name
    copy.write_bytes(data)
    with open_package(copy) as media:
        cabinet = media.packages[0]
        from imagetool.package.signature.check import check_signature

        assert check_signature(cabinet).judgement is Judgement.ALTERED


def test_a_package_is_genuine_under_a_root_that_is_trusted(signed: Signed) -> None:
    assert osslsigncode(signed.cab, signed.root)
    result = checked(signed.cab, signed.roots)
    assert result.judgement is Judgement.GENUINE, says(result)
    assert [item.subject for item in result.findings] == ["cabinet", "update.cat", "content"]
    result = checked(signed.cab)
    assert result.judgement is Judgement.UNKNOWN_SIGNER
    assert "no known root" in says(result)


def test_a_catalog_is_judged_as_osslsigncode_judges_it(signed: Signed, tmp_path: Path) -> None:
    sound = signed.files["update.cat"]
    path = tmp_path / "x.cat"
    path.write_bytes(sound)
    assert osslsigncode(path, signed.root)
    found = Catalog.parse(sound, "x.cat")
    trust = trust_for_windows(signed.roots)
    assert verify_signature(found.signed_data, trust).name == "Fixture Signer"
    place = sound.index(next(iter(found.files)).digest)
    path.write_bytes(sound[:place] + b"\0" * 32 + sound[place + 32 :])
    assert not osslsigncode(path, signed.root)
    with pytest.raises(Altered):
        verify_signature(Catalog.parse(path.read_bytes(), "x.cat").signed_data, trust)


def test_a_signer_under_microsofts_roots_must_be_one_of_windows_itself(
    signed: Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others sign drivers and programs under the same roots: the test root stands in for one."""
    from imagetool.package.signature import chain

    monkeypatch.setattr(chain, "microsoft_roots", lambda: signed.roots)
    result = checked(signed.cab)
    assert result.judgement is Judgement.UNKNOWN_SIGNER
    assert "Fixture Signer may not sign Windows itself" in says(result)


def test_only_an_authority_issues_certificates() -> None:
    """The chain of somebody who has a certificate, and issues another with it."""
    at = datetime.now(UTC)

    def issued(
        name: str, issuer: str, key: rsa.RSAPrivateKey, by: rsa.RSAPrivateKey, *more: object
    ) -> x509.Certificate:
        names = [
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
            for text in (name, issuer)
        ]
        builder = (
            x509.CertificateBuilder(names[1], names[0], key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - timedelta(days=1))
            .not_valid_after(at + timedelta(days=1))
        )
        for extension in more:
            builder = builder.add_extension(extension, critical=False)  # type: ignore[arg-type]
        return builder.sign(by, hashes.SHA256())

    keys = [rsa.generate_private_key(65537, 2048) for _ in range(4)]
    signs = x509.ExtendedKeyUsage([CODE_SIGNING])

    def authority(length: int | None = None) -> x509.BasicConstraints:
        return x509.BasicConstraints(ca=True, path_length=length)

    root = issued("root", "root", keys[0], keys[0], authority())
    trust = trust_for_windows([root])
    leaf = issued("leaf", "middle", keys[2], keys[1], signs)
    for extensions, words in (
        ([authority()], ""),
        ([x509.BasicConstraints(ca=False, path_length=None), signs], "may not issue"),
        ([signs], "may not issue"),
    ):
        between = issued("middle", "root", keys[1], keys[0], *extensions)
        if not words:
            assert check_chain(leaf, [between], trust, at, CODE_SIGNING)[-1] == root
            continue
        with pytest.raises(Untrusted, match=words):
            check_chain(leaf, [between], trust, at, CODE_SIGNING)
    upper = issued("upper", "root", keys[3], keys[0], authority(0))
    between = issued("middle", "upper", keys[1], keys[3], authority())
    with pytest.raises(Untrusted, match="so far from the signer"):
        check_chain(leaf, [between, upper], trust, at, CODE_SIGNING)


def test_certificates_that_all_issued_one_another_cost_a_bounded_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fixtures.signatures import NOW, Certificate
    from imagetool.package.signature import chain

    top = Certificate("A", ca=True, key_name="ec")
    crowd = [
        Certificate("A", issuer=top, ca=True, key_name="ec", last_day=400 + number).made
        for number in range(63)
    ]
    leaf = Certificate("leaf", issuer=top, key_name="ec-leaf", usages=(CODE_SIGNING,)).made
    checked_signatures = []
    original = chain.is_signed_by

    def counted(*arguments: Any) -> bool:
        checked_signatures.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(chain, "is_signed_by", counted)
    with pytest.raises(Untrusted):
        check_chain(leaf, crowd, trust_for_windows(), NOW, CODE_SIGNING)
    assert 0 < len(checked_signatures) < 200


def test_a_cabinet_without_a_signature_is_unsigned(signed: Signed) -> None:
    assert not osslsigncode(signed.plain, signed.root)
    assert checked(signed.plain, signed.roots).judgement is Judgement.UNSIGNED


def test_an_extracted_folder_is_as_genuine_as_its_catalog(signed: Signed, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    assert run("package", "extract", signed.cab, folder).returncode == 0
    assert checked(folder, signed.roots).judgement is Judgement.GENUINE
    victim = next(folder.rglob("vmbus.sys"))
    victim.write_bytes(victim.read_bytes() + b"x")
    result = checked(folder, signed.roots)
    assert result.judgement is Judgement.ALTERED
    assert "vmbus.sys has other bytes than its manifest states" in says(result)
    victim.unlink()
    assert "vmbus.sys is missing" in says(checked(folder, signed.roots))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"update.mum": b"<assembly/>"}, "update.mum is not in the catalog"),
        ({"extra.exe": b"MZ"}, "extra.exe is in no list"),
        ({"amd64_extra/extra.sys": b"MZ"}, "extra.sys is in no list"),
    ],
)
def test_what_the_catalog_does_not_list_is_altered(
    signed: Signed, change: dict[str, bytes], words: str
) -> None:
    """The cabinet's own signature is right: whoever added the file signed it anew."""
    files = {**signed.files, **change}
    if "update.mum" in change:
        files["update.mum"] = signed.files["update.mum"].replace(b"restart", b"restarT")
    path = signed.signed(f"changed-{len(words)}.cab", files)
    assert osslsigncode(path, signed.root)
    result = checked(path, signed.roots)
    assert result.judgement is Judgement.ALTERED
    assert words in says(result)


def test_bytes_that_changed_after_signing(signed: Signed, tmp_path: Path) -> None:
    whole = signed.cab.read_bytes()
    # A byte in the list of files: the time of the first one.
    data = bytearray(whole)
    data[struct.unpack_from("<I", whole, 16)[0] + 12] ^= 1
    path = tmp_path / "altered.cab"
    path.write_bytes(data)
    assert not osslsigncode(path, signed.root)
    result = checked(path, signed.roots)
    assert result.judgement is Judgement.ALTERED
    assert "the cabinet is not what was signed" in says(result)


def test_bytes_behind_the_signature_are_vouched_for_by_nobody(
    signed: Signed, tmp_path: Path
) -> None:
    path = tmp_path / "longer.cab"
    path.write_bytes(signed.cab.read_bytes() + b"more")
    result = checked(path, signed.roots)
    assert result.judgement is Judgement.ALTERED
    assert "4 bytes follow the signature" in says(result)


def test_a_folder_without_a_catalog_and_one_that_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "update.mum").write_bytes(package_files("6.2", "amd64")["update.mum"])
    assert checked(tmp_path).judgement is Judgement.UNSIGNED
    (tmp_path / "update.mum").write_bytes(b"not XML")
    refused(3, "package", "check", tmp_path)


def test_a_signer_whose_certificate_has_expired(
    oracle: Callable[[str], str], tmp_path: Path
) -> None:
    oracle("osslsigncode")
    make_authority(tmp_path, days=-10)
    source, target = tmp_path / "a.cat", tmp_path / "b.cat"
    # osslsigncode 2.5 takes nothing for a catalog whose length has fewer than two bytes.
    source.write_bytes(catalog({name: name.encode() for name in ("x", "y", "z")}))
    assert source.stat().st_size > 260
    sign(tmp_path, source, target)
    data = Catalog.parse(target.read_bytes(), "b.cat").signed_data
    trust = trust_for_windows(read_roots(tmp_path / "root.pem"))
    with pytest.raises(Untrusted, match="is valid from"):
        verify_signature(data, trust)
    then = datetime.now(UTC) - timedelta(days=10, hours=12)
    assert verify_signature(data, trust, then).name == "Fixture Signer"


def test_sha1_and_nested_signatures(signed: Signed, tmp_path: Path) -> None:
    old, both = tmp_path / "old.cab", tmp_path / "both.cab"
    sign(signed.folder, signed.plain, old, "sha1")
    assert checked(old, signed.roots).judgement is Judgement.GENUINE
    sign(signed.folder, old, both, "sha256", "-nest")
    result = checked(both, signed.roots)
    assert result.judgement is Judgement.GENUINE, says(result)
    assert "signed with sha1, and with sha256" in says(result)
    for path, digests in ((old, ("sha1",)), (both, ("sha1", "sha256")), (signed.cab, ("sha256",))):
        with open_package(path) as media:
            assert media.packages[0].digest_algorithms == digests


def test_a_windows_7_that_has_not_learned_sha2_is_not_given_such_a_package(
    oracle: Callable[[str], str], signed: Signed
) -> None:
    for name in ("mkntfs", "wimlib-imagex", "hivexregedit", "llvm-rc"):
        oracle(name)
    files = signed_files(signed.folder, signed.folder, package_files("6.x", "amd64"))
    path = signed.signed("sixx.cab", files)
    spec = guests.SERVER_2008_R2
    for accepts, rule in ((False, Rule.NO_SHA2), (True, Rule.APPLICABLE)):
        with (
            open_image(cached_guest(replace(spec, accepts_sha2=accepts))) as image,
            open_package(path) as media,
        ):
            windows = image.windows()
            evidence = read_evidence(windows, media.packages)
            found = choose(media.packages, evidence).fits[0]
            assert found.rule is rule, found.explanation


def test_a_package_whose_signature_is_broken_wants_its_version_all_the_same(
    oracle: Callable[[str], str], signed: Signed, tmp_path: Path
) -> None:
    """A guest that has not learned SHA-2 is the one whose packages' digests are looked at."""
    for name in ("mkntfs", "wimlib-imagex", "hivexregedit", "llvm-rc"):
        oracle(name)
    files = signed_files(signed.folder, signed.folder, package_files("6.x", "amd64"))
    whole = signed.signed("broken.cab", files).read_bytes()
    (start,) = struct.unpack_from("<I", whole, 44)
    image, broken = cached_guest(guests.SERVER_2008_R2), tmp_path / "broken.cab"
    for offset in (start, start + 1, start + 4, start + 30):
        data = bytearray(whole)
        data[offset] ^= 0xFF
        broken.write_bytes(data)
        done = run("verify", image, "--package", broken, "--trust", signed.root)
        assert done.returncode == 1, done.stderr
        assert "sets the wanted version, and is altered" in done.stdout, (offset, done.stderr)
        assert run("package", "check", broken, "--trust", signed.root).returncode == 1


def test_the_command_says_it_with_exit_codes(signed: Signed, tmp_path: Path) -> None:
    done = run("package", "check", signed.cab, "--trust", signed.root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("signed.cab: genuine\n")
    assert run("package", "check", signed.cab).returncode == 1
    done = run("package", "check", signed.plain, "--trust", signed.root, "--format", "json")
    assert done.returncode == 1
    assert '"judgement": "unsigned"' in done.stdout
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    assert "no certificate" in refused(3, "package", "check", signed.cab, "--trust", text)
    refused(3, "package", "check", signed.cab, "--trust", tmp_path / "none.pem")
    assert "signature" in run("package", "show", signed.cab).stdout


@settings(max_examples=80, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1 << 32), behind=st.booleans())
def test_damaged_signatures_end_in_our_errors_only(signed: Signed, seed: int, behind: bool) -> None:
    noise = random.Random(seed)
    whole = signed.cab.read_bytes()
    first = struct.unpack_from("<I", whole, 8)[0]
    data = bytearray(whole[first:] if behind else signed.files["update.cat"])
    for _ in range(noise.randrange(1, 6)):
        data[noise.randrange(len(data))] = noise.randrange(256)
    if noise.random() < 0.2:
        del data[noise.randrange(len(data)) :]
    begun = time.process_time()
    try:
        if behind:
            path = signed.folder / "damaged.cab"
            path.write_bytes(whole[:first] + bytes(data))
            assert checked(path, signed.roots).judgement in Judgement
        else:
            Catalog.parse(bytes(data), "catalog")
    except ImagetoolError as error:
        assert isinstance(error, Corrupt | NotRecognised)
    assert time.process_time() - begun < 2


def test_a_signature_counts_only_for_what_it_was_made_as(signed: Signed) -> None:
    """A catalog's list under the type of another content: the signed attribute says otherwise."""
    sound = signed.files["update.cat"]
    listed, file = bytes.fromhex("2b0601040182370a01"), bytes.fromhex("2b0601040182370204")
    place = sound.index(listed)
    assert len(listed) == len(file)
    changed = sound[:place] + file + sound[place + len(file) :]
    data = SignedData(der.parse(changed, der.SEQUENCE, "relabelled"))
    with pytest.raises(Altered, match="signed as something else"):
        verify_signature(data, trust_for_windows(signed.roots))
