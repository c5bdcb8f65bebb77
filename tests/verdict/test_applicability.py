"""Which package is for which guest: every rule, on packages whose parents are the real ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fixtures.packages import package_files
from imagetool.package import Identity, Version, open_package
from imagetool.verdict.applicability import Rule, check_fit, choose

TOKEN = "31bf3856ad364e35"
PARENT = "Microsoft-Hyper-V-Guest-Integration-Drivers-Package"
FOUNDATION = "Microsoft-Windows-Foundation-Package"
OWN = "Microsoft-Hyper-V-Integration-Services-Package-2"
NEW = Version(6, 3, 9600, 19456)


@dataclass
class Known:
    identity: Identity
    state: int = 0x70


@dataclass
class Guest:
    version: Version = Version(6, 3, 9600)
    architecture: str = "amd64"
    packages: list[Known] = field(default_factory=list)
    active_driver: Version | None = Version(6, 3, 9600, 16384)
    accepts_sha2: bool = True
    name: str = "Windows Server 2012 R2 Standard"


def known(name: str, version: Version, state: int = 0x70, architecture: str = "amd64") -> Known:
    return Known(Identity(name, TOKEN, architecture, "", version), state)


def in_box(version: Version = Version(6, 3, 9600, 16384), state: int = 0x70) -> list[Known]:
    return [known(PARENT, version, state)]


@pytest.mark.parametrize(
    ("guest", "rule", "chosen"),
    [
        (Guest(packages=in_box()), Rule.APPLICABLE, "amd64/Windows6.2"),
        (Guest(packages=in_box(state=0x80)), Rule.APPLICABLE, "amd64/Windows6.2"),
        (
            Guest(Version(6, 2, 9200), packages=in_box(Version(6, 2, 9200, 16384))),
            Rule.APPLICABLE,
            "amd64/Windows6.2",
        ),
        (
            Guest(
                Version(6, 1, 7601),
                packages=[known(FOUNDATION, Version(6, 1, 7600, 16385))],
                active_driver=None,
            ),
            Rule.APPLICABLE,
            "amd64/Windows6.x",
        ),
        (
            Guest(
                Version(6, 2, 9200),
                "x86",
                [known(PARENT, Version(6, 2, 9200, 16384), architecture="x86")],
            ),
            Rule.APPLICABLE,
            "x86/Windows6.2",
        ),
        (
            Guest(packages=[*in_box(), known(OWN, NEW, 0x60)]),
            Rule.ALREADY_INSTALLED,
            "amd64/Windows6.2",
        ),
        (
            Guest(packages=[*in_box(), known(OWN, Version(6, 3, 9600, 20000))]),
            Rule.SUPERSEDED,
            "amd64/Windows6.2",
        ),
        (
            Guest(packages=in_box(), active_driver=Version(6, 3, 9600, 20000)),
            Rule.SUPERSEDED,
            "amd64/Windows6.2",
        ),
        (Guest(packages=[*in_box(), known(OWN, NEW, 0x40)]), Rule.APPLICABLE, "amd64/Windows6.2"),
    ],
)
def test_the_package_for_a_guest(disc: Path, guest: Guest, rule: Rule, chosen: str) -> None:
    with open_package(disc) as media:
        choice = choose(media.packages, guest)
        assert choice.fit is not None
        assert choice.fit.rule is rule
        assert chosen in choice.fit.package.name


@pytest.mark.parametrize(
    ("guest", "rule"),
    [
        (Guest(Version(10, 0, 17763)), Rule.IN_BOX),
        (Guest(packages=[]), Rule.NO_PARENT),
        (Guest(packages=in_box(state=0x40)), Rule.NO_PARENT),
        (Guest(packages=in_box(Version(6, 4, 0, 0))), Rule.NO_PARENT),
        (Guest(packages=[known(PARENT, Version(6, 2, 9000, 0))]), Rule.NO_PARENT),
        (Guest(Version(6, 0, 6002)), Rule.TOO_OLD),
        (Guest(architecture="x86", packages=in_box()), Rule.WRONG_ARCHITECTURE),
    ],
)
def test_what_is_not_for_a_guest_says_why(disc: Path, guest: Guest, rule: Rule) -> None:
    with open_package(disc) as media:
        found = check_fit(media.packages[0], guest)
        assert found.rule is rule
        assert not found.is_for_guest
        assert found.explanation


def test_a_package_of_something_else_is_for_no_guest(tmp_path: Path) -> None:
    """Its version would be taken for the wanted one, though it fits the guest."""
    for name, data in package_files("6.2", "amd64").items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            data.replace(b'name="Microsoft-Hyper-V-Integration', b'name="Microsoft-Windows-NetFx3')
            if name == "update.mum"
            else data
        )
    with open_package(tmp_path) as media:
        choice = choose(media.packages, Guest(packages=in_box()))
        assert choice.fits[0].rule is Rule.OTHER_PACKAGE
        assert choice.fit is choice.newest is None
        assert "is no integration services package, but Microsoft-Windows-NetFx3" in choice.refusal


def test_a_refusal_is_one_sentence_that_names_both_sides(disc: Path) -> None:
    with open_package(disc) as media:
        by_name = {package.name.rpartition("/")[2]: package for package in media.packages}
        old = by_name["Windows6.x-HyperVIntegrationServices-x64.cab"]
        own = by_name["Windows6.2-HyperVIntegrationServices-x64.cab"]
        found = choose([old], Guest(packages=in_box())).refusal
        systems = "Windows 7, Server 2008 R2"
        this = "this guest is Windows Server 2012 R2 Standard, amd64"
        assert found in (
            f"{old.name} is for {systems}; {this}",
            f"{old.name} is for {systems} and older; {this}",
        )
        found = choose([own], Guest()).refusal
        assert f"{own.name} is for a guest in which {PARENT} 6.3.0.0" in found
        found = choose([own], Guest(Version(6, 1, 7601), name="Windows 7")).refusal
        assert "is for Windows 8, Server 2012 and newer; this guest is Windows 7, amd64" in found
        every = choose(media.packages, Guest(architecture="arm64")).refusal
        assert every.count(" are for ") == 2
        assert every.endswith("this guest is Windows Server 2012 R2 Standard, arm64")
        for package in media.packages:
            assert every.count(package.name) == 1
            assert len(choose([package], Guest()).refusal) < 300


def test_the_real_package_is_for_a_2012_r2(real_packages: Path) -> None:
    with open_package(real_packages / "windows6.2-hypervintegrationservices-x64.cab") as media:
        assert check_fit(media.packages[0], Guest(packages=in_box())).applies
