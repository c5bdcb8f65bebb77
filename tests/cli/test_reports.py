"""A report exists however a run ends: whole, of this run, and never in the place of an input."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from defusedxml import ElementTree

from fixtures.cabinets import STORED, write_cabinet
from fixtures.packages import package_files
from tests.program import command_line, refused, run
from tests.waiting import until

EARLY: dict[str, tuple[int, str, list[str]]] = {
    "a version that is none": (2, "no version", ["verify", "{image}", "--at-least", "new"]),
    "an unknown option": (2, "No such option: --nope", ["verify", "{image}", "--nope"]),
    "a value that is none": (2, "bogus", ["verify", "{image}", "--require", "bogus"]),
    "no image": (2, "No image is named", ["verify"]),
    "no list": (3, "no such file", ["verify", "--from", "{none}"]),
    "no package": (3, "no such file", ["verify", "{image}", "--package", "{none}"]),
    "a package that is none": (3, "no cabinet", ["verify", "{image}", "--package", "{text}"]),
    "no root": (3, "no such file", ["verify", "{image}", "--trust", "{none}"]),
    "a check of nothing": (3, "no such file", ["package", "check", "{none}"]),
    "a check of a text": (3, "no cabinet", ["package", "check", "{text}"]),
    "a check without a package": (2, "Missing argument", ["package", "check"]),
    "a check with an unknown option": (2, "--nope", ["package", "check", "{text}", "--nope"]),
}


@pytest.fixture
def early(template: Path, tmp_path: Path) -> Callable[[str], tuple[int, str, list[str]]]:
    """A command line that fails before anything is judged, its code, and words of its sentence."""
    (tmp_path / "text").write_text("a text")
    names = {"image": template, "none": tmp_path / "none", "text": tmp_path / "text"}

    def make(name: str) -> tuple[int, str, list[str]]:
        code, words, arguments = EARLY[name]
        return code, words, [argument.format(**names) for argument in arguments]

    return make


def suite_of(text: str) -> Element:
    """The one suite of a report, whose counts are those of its cases and of the root."""
    root: Element = ElementTree.fromstring(text.encode("utf-8"))
    (suite,) = root
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    for element in (root, suite):
        assert element.get("tests") == str(len(suite.findall("testcase")))
        assert element.get("failures") == str(len(suite.findall("testcase/failure")))
        assert element.get("errors") == str(len(suite.findall("testcase/error")))
    return suite


def error_of(text: str, output_format: str) -> tuple[str, str]:
    """The sentence and the hint of the failure that a report says."""
    if output_format == "json":
        error = json.loads(text)["error"]
        return error["message"], error["hint"]
    if output_format == "junit":
        (case,) = suite_of(text)
        error = case.find("error")
        assert error is not None
        return error.get("message") or "", error.text or ""
    said, hint = text.splitlines()
    return said.removeprefix("error: "), hint.removeprefix("hint: ")


@pytest.mark.parametrize("output_format", ["text", "json", "junit"])
@pytest.mark.parametrize("name", EARLY)
def test_a_run_that_fails_early_has_a_report(
    early: Callable[[str], tuple[int, str, list[str]]],
    tmp_path: Path,
    name: str,
    output_format: str,
) -> None:
    code, words, arguments = early(name)
    report = tmp_path / "report"
    report.write_text("what an earlier run said")
    done = run(*arguments, "--format", output_format, "--output", report)
    assert (done.returncode, done.stdout) == (code, "")
    message, hint = error_of(report.read_text(encoding="utf-8"), output_format)
    assert words in message
    assert hint
    assert done.stderr.count(words) == 1
    assert sorted(item.name for item in tmp_path.iterdir()) == ["report", "text"]


@pytest.mark.parametrize("output_format", ["json", "junit"])
@pytest.mark.parametrize("name", EARLY)
def test_it_goes_to_standard_output_where_that_has_the_results(
    early: Callable[[str], tuple[int, str, list[str]]], name: str, output_format: str
) -> None:
    code, words, arguments = early(name)
    for output in ([], ["--output", "-"]):
        done = run(*arguments, f"--format={output_format}", *output)
        assert done.returncode == code
        assert words in error_of(done.stdout, output_format)[0]
        assert done.stderr.count(words) == 1


def test_an_error_document_keeps_its_schema_and_has_the_code(template: Path) -> None:
    for command in (["inspect"], ["verify"], ["verify", str(template), "--at-least", "x"]):
        done = run(*command, "--format", "json")
        document = json.loads(done.stdout)
        assert document["schema"] == f"imagetool/{command[0]}/1"
        assert document["images"] == []
        assert document["error"]["exit_code"] == done.returncode == 2
    done = run("package", "check", "none", "--format", "json")
    document = json.loads(done.stdout)
    assert (document["package"], document["packages"]) == ("none", [])
    assert document["error"]["exit_code"] == 3
    done = run("inspect", template, "--volume", "x", "--format", "json")
    assert json.loads(done.stdout)["error"]["exit_code"] == done.returncode == 2


def broken_judge(monkeypatch: pytest.MonkeyPatch, left: int, failure: BaseException) -> None:
    """Judge so many images, and then fail."""
    from imagetool.verdict import verify as module

    judge, count = module.verify, iter(range(left + 1))

    def verify(*arguments: Any, **options: Any) -> object:
        if next(count) == left:
            raise failure
        return judge(*arguments, **options)

    monkeypatch.setattr(module, "verify", verify)


@pytest.mark.parametrize(
    ("failure", "words"),
    [(MemoryError(), "more memory than there is"), (RecursionError(), "levels")],
)
def test_what_takes_all_memory_or_too_many_levels_fails_one_image_alone(
    template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    words: str,
) -> None:
    images = [tmp_path / f"{number}.vhdx" for number in range(3)]
    for image in images:
        image.symlink_to(template)
    from imagetool.verdict import verify as module

    judge = module.verify

    def verify(image: Any, *arguments: Any, **options: Any) -> object:
        if image.path == str(images[1]):
            raise failure
        return judge(image, *arguments, **options)

    monkeypatch.setattr(module, "verify", verify)
    done = run("verify", *images, "--format", "json")
    assert done.returncode == 3
    found = json.loads(done.stdout)["images"]
    assert [item["verdict"] for item in found] == ["current", "unknown", "current"]
    assert words in str(found[1]["error"])
    assert done.stderr.count(words) == done.stderr.count(f"{images[1]}: ") == 1


@pytest.mark.parametrize(
    ("failure", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted: 2 of 4 images were not judged"),
        (RuntimeError("a \x1b bug"), 70, "a fault in imagetool itself: RuntimeError: a"),
        (OSError(5, "Input/output error"), 3, "Input/output error"),
    ],
)
def test_what_was_judged_before_is_in_the_report(
    template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    code: int,
    words: str,
) -> None:
    images = [tmp_path / f"{number}.vhdx" for number in range(4)]
    for image in images:
        image.symlink_to(template)
    report = tmp_path / "report"
    for output_format in ("json", "junit", "text"):
        with monkeypatch.context() as patch:
            broken_judge(patch, 2, failure)
            done = run("verify", *images, "--format", output_format, "--output", report)
        assert done.returncode == code
        text = report.read_text()
        if output_format == "json":
            document = json.loads(text)
            assert [item["verdict"] for item in document["images"]] == ["current", "current"]
            assert words in document["error"]["message"]
            assert document["error"]["exit_code"] == code
        elif output_format == "junit":
            first, second, last = suite_of(text)
            assert [case.find("error") for case in (first, second)] == [None, None]
            error = last.find("error")
            assert error is not None
            assert words in (error.get("message") or "")
        else:
            assert [": current" in line for line in text.splitlines()] == [True, True, *[False] * 3]
            assert words in text
            assert "\x1b" not in text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without a signal")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_run_that_a_signal_ends_has_its_report(tmp_path: Path, name: str) -> None:
    report = tmp_path / "report.json"
    report.write_text("of last time")
    number = getattr(signal, name)
    started = subprocess.Popen(
        command_line(
            *("verify", "none.vhdx", "--from", "-"), *("--format", "json", "--output", report)
        ),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # nohup had it ignored
    )
    assert until(lambda: not report.exists())  # it waits for the list by now
    started.send_signal(number)
    _, complaints = started.communicate(timeout=30)
    assert (started.returncode, "Traceback" in complaints) == (130, False), complaints
    assert json.loads(report.read_text())["error"]["exit_code"] == 130


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_a_result_that_cannot_be_written_as_one_leaves_a_report_too(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    from imagetool.report.data import guest, verdict

    def fault(_: object) -> None:
        raise LookupError("no such name")

    monkeypatch.setattr(verdict, "facts_tree", fault)
    monkeypatch.setattr(guest, "facts_tree", fault)
    done = run(command, template, "--format", "json")
    assert done.returncode == 70
    document = json.loads(done.stdout)
    assert document["images"] == []
    assert "LookupError" in document["error"]["message"]


@pytest.mark.parametrize(
    ("output", "code", "words"),
    [
        ("", 2, "--output is empty"),
        ("{folder}", 7, "a directory"),
        ("{folder}/none/report", 7, "there is no such directory"),
        ("{folder}/text/report", 7, "cannot be written"),
        ("{folder}/" + "x" * 300, 7, "cannot be written"),
        ("{image}", 7, "an input cannot be the output too"),
        ("{folder}/link", 7, "an input cannot be the output too"),
        ("{folder}/list", 7, "an input cannot be the output too"),
        ("{folder}/root", 7, "an input cannot be the output too"),
        ("{folder}/other", 7, "no report"),
    ],
)
def test_an_output_that_cannot_be_a_report_is_refused_before_the_work_begins(
    template: Path, tmp_path: Path, output: str, code: int, words: str
) -> None:
    image = Path(shutil.copyfile(template, tmp_path / "image.vhdx"))
    (tmp_path / "other").write_bytes(image.read_bytes()[:4096])
    (tmp_path / "link").symlink_to(image)
    for name in ("text", "list", "root"):
        (tmp_path / name).write_text(f"{image}\n")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    named = output.format(folder=tmp_path, image=image)
    for bad in ((), ("--at-least", "new"), ("--nope",)):
        options = ("--from", tmp_path / "list", f"--trust={tmp_path / 'root'}", "--output", named)
        done = run("verify", image, *bad, *options)
        assert done.returncode == (2 if bad == ("--nope",) else code)
        assert bad == ("--nope",) or done.stderr.count("imagetool: ") == 1
        assert words in done.stderr or (bad == ("--nope",) and not output)
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_cannot_be_written_in_full_is_not_there(template: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    for arguments, code in ((["verify"], 7), (["verify", "--at-least", "x" * 3000], 2)):
        report.write_text("what an earlier run said")
        line = command_line(*arguments, template, "--format", "json", "--output", report)
        done = subprocess.run(
            ["sh", "-c", 'ulimit -f 2; exec "$@"', "sh", *line], capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr
        assert f"imagetool: {report}: cannot be written: File too large" in done.stderr
        assert "Traceback" not in done.stderr
        assert list(tmp_path.iterdir()) == []
    assert "No space left" in refused(7, "verify", template, "--output", "/dev/full")


def test_a_report_has_the_mode_of_any_new_file_and_a_link_to_it_stays(
    template: Path, tmp_path: Path
) -> None:
    report, link = tmp_path / "kept" / "report.json", tmp_path / "latest.json"
    report.parent.mkdir()
    link.symlink_to(report)
    (tmp_path / "any").touch()
    for _ in range(2):
        assert run("verify", template, "--format", "json", "--output", link).returncode == 0
        assert link.is_symlink()
        assert json.loads(report.read_text())["summary"]["hold"] == 1
        mode = stat.S_IMODE((tmp_path / "any").stat().st_mode)
        assert stat.S_IMODE(report.stat().st_mode) == mode
    assert [item.name for item in report.parent.iterdir()] == ["report.json"]


def test_a_report_goes_into_pipes_and_streams_and_they_stay(template: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()), daemon=True)
    reader.start()
    assert run("verify", template, "--format", "json", "--output", pipe).returncode == 0
    reader.join(10)
    assert json.loads(found[0])["summary"]["judged"] == 1
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    log = tmp_path / "log"
    log.write_text("before\n")
    with log.open("a") as file:
        line = command_line("verify", template, "--output", "/dev/stdout")
        assert subprocess.run(line, stdout=file).returncode == 0
    assert log.read_text().startswith(f"before\n{template}: current")
    line = shlex.join(command_line("verify", template, "--output", "/dev/stdout"))
    closed = subprocess.run(f"{line} >&-", shell=True, capture_output=True, text=True)
    assert (closed.returncode, closed.stderr.count("standard output is closed")) == (7, 1)
    assert run("verify", template, "--output", "/dev/null").returncode == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_each_failure_is_said_once(template: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.vhdx"
    bad.write_text("a text")
    done = run("verify", bad)
    assert (done.returncode, done.stdout) == (3, f"{bad}: unknown\n")
    sentence, hint = done.stderr.splitlines()
    assert hint.startswith("hint: ")
    done = run("verify", bad, template)
    lines = done.stdout.splitlines()
    assert lines[0] == f"{bad}: unknown"
    assert lines[2] == "1 judged: 1 hold, 0 fail; 1 could not be read"
    assert done.stderr.splitlines() == [sentence, hint]
    report = tmp_path / "report"
    assert run("verify", bad, template, "--output", report).stderr == done.stderr
    assert f": unknown: {sentence.partition(f'{bad}: ')[2]}\n" in report.read_text()


def test_a_package_that_does_not_apply_is_a_failure_of_that_name(
    template: Path, tmp_path: Path
) -> None:
    package = tmp_path / "older.cab"
    package.write_bytes(write_cabinet(package_files("6.2", "x86"), STORED))
    command = ("verify", template, "--package", package)
    done = run(*command)
    assert (done.returncode, done.stdout) == (1, f"{template}: does not apply\n")
    document = json.loads(run(*command, "--format", "json").stdout)
    (image,) = document["images"]
    assert (image["verdict"], image["holds"], image["exit_code"]) == ("does not apply", False, 1)
    assert document["summary"] == {"judged": 1, "hold": 0, "fail": 1, "unreadable": 0}
    (case,) = suite_of(run(*command, "--format", "junit").stdout)
    failure = case.find("failure")
    assert failure is not None
    assert failure.get("type") == "does not apply"
    assert case.find("error") is None
