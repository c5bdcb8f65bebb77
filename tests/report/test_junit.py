"""Verdicts on packages as JUnit XML, read back with an XML parser of its own."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest
from defusedxml import ElementTree

from fixtures.cabinets import MSZIP, write_cabinet
from fixtures.packages import package_files
from imagetool.package.signature.check import Finding, Judgement, MediaReport, PackageReport
from imagetool.report import render
from tests.program import refused, run

HOSTILE = (
    "a\"<&>'.cab",
    "]]><![CDATA[.cab",
    "a\x01\x1b[2J\x7f\x85.cab",
    "a\u202e\ufffe\uffff\U0010ffff.cab",
    "a\ud800\udfff.cab",
    "a\nb\tc\rd.cab",
)


COUNTS = ("tests", "failures", "errors", "time")


def parse(text: str) -> Element:
    """Parse the bytes that would be in the file; return the one suite in it."""
    root = ElementTree.fromstring(text.encode("utf-8"))
    (suite,) = root
    assert root.tag == "testsuites"
    assert [root.get(name) for name in COUNTS] == [suite.get(name) for name in COUNTS]
    return suite


def counts(suite: Element) -> tuple[str | None, ...]:
    return tuple(suite.get(name) for name in ("name", "tests", "failures", "errors"))


def report(*packages: tuple[str, Judgement]) -> MediaReport:
    return MediaReport(
        "vmguest.iso",
        tuple(
            PackageReport(name, (Finding("content", judgement, f"{name}: as it is"),))
            for name, judgement in packages
        ),
    )


def test_every_package_of_a_disc_is_a_case(disc: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.xml"
    done = run("package", "check", disc, "--format", "junit", "--output", target)
    assert (done.returncode, done.stdout) == (1, "")
    suite = parse(target.read_text(encoding="utf-8"))
    assert counts(suite) == ("imagetool package check", "4", "4", "0")
    *listed, rest = run("package", "check", disc).stdout.splitlines()
    assert rest.endswith("nothing is said of its other files (0), nor of the disc")
    names = [line.rpartition(": ")[0] for line in listed if not line.startswith(" ")]
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == names
    for case in cases:
        assert case.get("classname") == "imagetool.package-check"
        failure = case.find("failure")
        assert failure is not None
        assert failure.get("type") == "unsigned"
        assert "cabinet: unsigned: no signature" in (failure.get("message") or "")
        assert str(disc) in (case.findtext("system-out") or "")
    again = run("package", "check", disc, "--format", "junit").stdout
    written = target.read_text(encoding="utf-8")
    times = re.compile(r' timestamp="[^"]*"')
    assert times.sub("", again) == times.sub("", written)


def test_whatever_is_not_genuine_is_a_failure_of_that_type() -> None:
    judgements = [(f"{item.value}.cab", item) for item in Judgement]
    suite = parse(render(report(*judgements), "junit"))
    assert counts(suite) == ("imagetool package check", "4", "3", "0")
    found = {
        case.get("name"): [item.get("type") for item in case.findall("failure")] for case in suite
    }
    assert found == {
        "genuine.cab": [],
        "unknown signer.cab": ["unknown signer"],
        "unsigned.cab": ["unsigned"],
        "altered.cab": ["altered"],
    }


@pytest.mark.parametrize("name", HOSTILE)
def test_the_xml_is_well_formed_whatever_names_say(name: str) -> None:
    suite = parse(render(report((name, Judgement.ALTERED), (name, Judgement.GENUINE)), "junit"))
    assert counts(suite) == ("imagetool package check", "2", "1", "0")
    assert len(suite.findall(".//*")) == 5  # no name has made an element of its own
    first, second = suite
    assert first.get("name") == second.get("name")
    assert len((second.findtext("system-out") or "").splitlines()) == 2


def test_a_cabinet_with_a_hostile_name_and_an_altered_file_is_a_case(tmp_path: Path) -> None:
    files = package_files("6.2", "amd64")
    files["<evil>&\u202e.txt"] = b"x"
    path = tmp_path / "a<b>&'.cab"
    path.write_bytes(write_cabinet(files, MSZIP))
    done = run("package", "check", path, "--format", "junit")
    assert done.returncode == 1
    (case,) = parse(done.stdout)
    assert case.get("name") == path.name


def test_a_report_that_cannot_be_written_is_said(disc: Path, tmp_path: Path) -> None:
    command = ("package", "check", disc, "--format", "junit", "--output", tmp_path / "no" / "x")
    assert "no such directory" in refused(7, *command)
