"""Verdicts on packages as JUnit XML, read back with an XML parser of its own."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from xml.etree.ElementTree import Element

import pytest
from defusedxml import ElementTree

from fixtures.cabinets import MSZIP, write_cabinet
from fixtures.packages import package_files
from imagetool.package.signature.check import Finding, Judgement, MediaReport, PackageReport
from imagetool.report import render
from imagetool.report.text import safe
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
    """The one suite in the bytes that would be in the file."""
    root: Element = ElementTree.fromstring(text.encode("utf-8"))
    assert root.tag == "testsuites"
    (suite,) = root
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
    assert rest.endswith("of the other files that were seen there (0), nor of the disc")
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
    assert [case.attrib.keys() for case in parse(again)] == [{"classname", "name", "time"}] * 4
    times = re.compile(r' time(stamp)?="[^"]*"')
    assert times.sub("", again) == times.sub("", target.read_text(encoding="utf-8"))


def test_whatever_is_not_genuine_is_a_failure_of_that_type() -> None:
    judgements = [(f"{item.value}.cab", item) for item in Judgement]
    suite = parse(render(report(*judgements), "junit"))
    assert counts(suite) == ("imagetool package check", "5", "3", "1")
    (error,) = suite.iter("error")
    assert error.get("type") == "unreadable"
    found = {
        case.get("name"): [item.get("type") for item in case.findall("failure")] for case in suite
    }
    assert found.pop("unreadable.cab") == []
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
    assert "cannot be written: there is no such directory" in refused(7, *command)


def test_times_are_those_of_the_run(template: Path, disc: Path, tmp_path: Path) -> None:
    """Each image's, which together are no more than what the run took; in UTC, without offset."""
    (tmp_path / "again.vhdx").symlink_to(template)
    for command in (["package", "check", disc], ["verify", template, tmp_path / "again.vhdx"]):
        before, begun = datetime.now(UTC), perf_counter()
        done = run(*command, "--format", "junit")
        took = perf_counter() - begun
        suite = parse(done.stdout)
        times = [float(case.attrib["time"]) for case in suite]
        assert all(0 < time < took for time in times)
        assert float(suite.attrib["time"]) == pytest.approx(sum(times), abs=0.01)
        assert sum(times) < took
        started = datetime.strptime(suite.attrib["timestamp"], "%Y-%m-%dT%H:%M:%S")
        assert before - timedelta(seconds=1) <= started.replace(tzinfo=UTC) <= datetime.now(UTC)


def test_what_was_not_measured_has_no_time() -> None:
    suite = parse(render(report(("a.cab", Judgement.GENUINE)), "junit"))
    assert "timestamp" not in suite.attrib
    assert [case.get("time") for case in suite] == [None]


def test_a_case_says_what_it_was_compared_with_and_all_warnings(template: Path, disc: Path) -> None:
    for options, words in (
        ([], "wanted from present: compared with itself"),
        (["--at-least", "6.3.9600.16384"], "wanted from at-least"),
        (["--package", disc], "wanted from package"),
    ):
        command = ("verify", template, *options, "--strict")
        (case,) = parse(run(*command, "--format", "junit").stdout)
        lines = (case.findtext("system-out") or "").splitlines()
        assert words in lines
        (image,) = json.loads(run(*command, "--format", "json").stdout)["images"]
        said = [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]
        assert said == [safe(warning) for warning in image["warnings"]]
        assert bool(said) == ("--package" in options)  # the stand-in for it is not signed
        failure = case.find("failure")
        assert (failure is None) == image["holds"]
        for objection in image["objections"]:
            assert failure is not None
            assert objection in (failure.get("message") or "")


@pytest.mark.usefixtures("writers")
def test_a_rehearsal_is_said_whether_accepted_or_not(template: Path, tmp_path: Path) -> None:
    booted = shutil.copyfile(template, tmp_path / "booted.vhdx")
    assert run("lab", "boot", booted, "--force").returncode == 0
    for options, result in (([], "failure"), (["--accept-rehearsal"], "system-out")):
        (case,) = parse(run("verify", booted, *options, "--format", "junit").stdout)
        assert case[0].tag == result
        assert "rehearsed: the emulated host wrote" in (case.findtext("system-out") or "")
