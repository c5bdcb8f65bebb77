"""The public API: `import imagetool` is enough, wrong types are said, results have a repr."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import imagetool
from imagetool.errors import WrongUsage

ROOT = Path(__file__).resolve().parents[2]
KEY = r"HKLM\SOFTWARE\Microsoft\Virtual Machine\Auto"


def test_importing_it_is_enough_for_errors_types_and_functions() -> None:
    code = (
        "import imagetool\n"
        "for name in imagetool.__all__: getattr(imagetool, name)\n"
        "print(imagetool.errors.WrongUsage.exit_code, imagetool.Version.parse('6.3.9600.16384'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "2 6.3.9600.16384\n"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        imagetool.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_importing_it_imports_no_reader() -> None:
    code = (
        "import sys, imagetool; print(sorted(m for m in sys.modules if m.startswith('imagetool')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert (
        done.stdout.strip() == "['imagetool', 'imagetool.budget', 'imagetool.contracts', "
        "'imagetool.errors', 'imagetool.version']"
    )


def test_the_readme_imports_imagetool_alone() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert examples
    for example in examples:
        compile(example, "README.md", "exec")
        imports = re.findall(r"^\s*(?:import|from) .*$", example, re.MULTILINE)
        assert set(imports) <= {"import imagetool"}, imports
        for name in re.findall(r"\bimagetool\.([A-Za-z_]+)", example):
            assert hasattr(imagetool, name), name


def test_the_readme_s_calls_work(template: Path, disc: Path) -> None:
    assert imagetool.read_registry_value(template, KEY, "IntegrationServicesVersion") == (
        "6.3.9600.16384"
    )
    result = imagetool.verify(template, package=disc)
    assert (result.verdict.outcome, result.holds) == (imagetool.Outcome.OUTDATED, False)
    assert result.verdict.reasons
    found = imagetool.inspect(template)
    assert found.holds
    assert found.guest is not None
    assert found.guest.name == "Windows Server 2012 R2 Standard"
    assert (found.guest.version, found.guest.architecture) == (
        imagetool.Version(6, 3, 9600),
        "amd64",
    )
    assert found.guest.evidence is found.components
    with imagetool.open_image(template) as image:
        assert image.windows().volume.lookup("Windows/System32/icsvc.dll").size > 0


def test_several_packages_are_taken_as_on_the_command_line(template: Path, disc: Path) -> None:
    several = imagetool.verify(template, package=[disc, str(disc)])
    assert several.verdict == imagetool.verify(template, package=str(disc)).verdict
    assert imagetool.verify(template, package=[]).verdict.outcome is imagetool.Outcome.CURRENT
    assert imagetool.verify(template, at_least=imagetool.Version(6, 3, 9600, 1)).holds


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: imagetool.verify(t, parents="dir"), "parents is 'dir' .str., not a list"),
        (lambda t: imagetool.verify(t, parents=[1]), "parents.0. is 1 .int., not a path"),
        (lambda t: imagetool.verify(t, at_least=6), "at_least is 6 .int., not a version"),
        (lambda t: imagetool.verify(t, at_least="six"), "at_least is 'six' .str., not a version"),
        (lambda t: imagetool.verify(t, require="both"), "neither installed nor confirmed"),
        (lambda t: imagetool.verify(t, require=["installed"]), "neither installed nor confirmed"),
        (lambda t: imagetool.verify(t, package=7), "package is 7 .int., not a list of paths"),
        (lambda t: imagetool.verify(t, package=[b"x"]), "package.0. is b'x' .bytes., not a path"),
        (lambda t: imagetool.verify(t, volume="4"), "volume is '4' .str., not a number"),
        (lambda t: imagetool.verify(t, volume=True), "volume is True .bool., not a number"),
        (lambda t: imagetool.verify(7), "path is 7 .int., not a path"),
        (lambda t: imagetool.inspect(""), "path is empty"),
        (lambda t: imagetool.inspect(t, volume=1.5), "volume is 1.5 .float., not a number"),
        (lambda t: imagetool.open_image([t]), "path is .*list., not a path"),
        (lambda t: imagetool.open_package(None), "path is None .NoneType., not a path"),
        (lambda t: imagetool.read_registry_value(t, None), "key is None .NoneType., not a text"),
        (lambda t: imagetool.read_registry_value(t, KEY, 3), "value is 3 .int., not a text"),
        (lambda t: imagetool.inject(t, t, "out.vhdx", host=5), "host is 5 .int., not a text"),
        (lambda t: imagetool.inject(t, t, None), "output is None .NoneType., not a path"),
        (lambda t: imagetool.inject(t, [], "out.vhdx"), "package is empty"),
        (lambda t: imagetool.plan(t, 7), "package is 7 .int., not a list of paths"),
        (lambda t: imagetool.find("a\0b"), "locations.0. is .*: no path has a NUL"),
        (lambda t: imagetool.inject(t, t, "a\0b"), "output is .*no path has a NUL"),
        (lambda t: imagetool.connect(""), "the name of the host is empty"),
        (lambda t: imagetool.connect(5), "host is 5 .int., not a text"),
    ],
)
def test_wrong_types_are_wrong_usage(
    template: Path, call: Callable[[Any], object], words: str
) -> None:
    with pytest.raises(imagetool.errors.WrongUsage) as caught:
        call(template)
    assert re.match(words, caught.value.message) or re.search(words, caught.value.message)
    assert caught.value.hint
    assert len(caught.value.message) < 400


def test_every_flag_of_the_library_is_true_or_false(template: Path, tmp_path: Path) -> None:
    """The text "no" is true for Python, and would make a gate green."""
    found = []
    for name in imagetool.__all__:
        function = getattr(imagetool, name)
        if not inspect.isfunction(function):
            continue
        parameters = inspect.signature(function).parameters
        given: dict[str, object] = {
            "path": template, "image": template, "package": template, "locations": template,
            "output": tmp_path / "out.vhdx",
        }  # fmt: skip
        positional = [given[key] for key, item in parameters.items()
                      if item.default is item.empty and key in given]  # fmt: skip
        for key, item in parameters.items():
            if item.annotation == "bool":
                found.append(f"{name} {key}")
                for wrong in ("no", "false", 0, 1, None, [0]):
                    with pytest.raises(WrongUsage, match=key):
                        function(*positional, **{key: wrong})
    assert len(found) >= 5


def test_a_verdict_that_does_not_hold_is_not_true(template: Path) -> None:
    assert not imagetool.verify(template, at_least="6.3.9600.19999")
    assert imagetool.verify(template)


def test_results_have_a_short_repr(template: Path, disc: Path) -> None:
    result = imagetool.verify(template, package=disc)
    assert repr(result) == f"Verification({str(template)!r}, 'outdated', holds=False)"
    found = imagetool.inspect(template)
    assert repr(found) == "Inspection('Windows Server 2012 R2 Standard, 6.3.9600.0')"


@pytest.mark.parametrize("name", ["verify", "inspect"])
def test_to_json_is_the_document_of_the_command_line(
    template: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = getattr(imagetool, name)(str(template))
    printed = subprocess.run(
        [sys.executable, "-m", "imagetool", name, str(template), "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert json.loads(result.to_json())["schema"] == f"imagetool/{name}/1"
    assert result.to_json() == printed.stdout


def test_connect_opens_a_session_by_the_configuration_s_rules(
    template: Path, lab_engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGETOOL_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(imagetool.errors.WrongUsage, match="there is no such file"):
        imagetool.connect("lab")  # a mistake in the configuration is told, whichever host is named
    (tmp_path / "none.toml").touch()
    with imagetool.connect("lab") as host:
        assert isinstance(host, imagetool.Connection)
        (image,) = host.find(f"{template.parent}/temp*.vhdx")
        assert isinstance(image, imagetool.Location)
        assert (str(image), image.file_name) == (f"lab:{template}", "template.vhdx")
        verified = imagetool.verify(image)
        assert verified.verdict == imagetool.verify(template).verdict
        value = imagetool.read_registry_value(image, KEY, "IntegrationServicesVersion")
        assert value == "6.3.9600.16384"
        with pytest.raises(imagetool.errors.WrongUsage, match="properties is 'Size', not a list"):
            host.session.invoke("Get-VHD", properties="Size", Path=str(template))
        with pytest.raises(imagetool.errors.CannotOpen, match="no file fits this pattern"):
            host.find(f"{template.parent}/none*.vhdx")
        with pytest.raises(imagetool.errors.WrongUsage, match="no path is given"):
            host.find()
    with pytest.raises(imagetool.errors.HostFailed, match="the session is closed"):
        imagetool.verify(image)
    with pytest.raises(imagetool.errors.WrongUsage):
        imagetool.connect("not a host")


@pytest.mark.usefixtures("writers")
def test_plan_and_inject_by_locations(
    template: Path, disc: Path, lab_engine: str, tmp_path: Path
) -> None:
    target = tmp_path / "out.vhdx"
    plan = imagetool.plan(template, disc, target, host="lab", allow_unsigned=True)
    assert repr(plan).startswith(f"Plan({str(template)!r}, 'Microsoft-Hyper-V-Integration")
    assert json.loads(plan.to_json())["schema"] == "imagetool/plan/1"
    assert not target.exists()
    with imagetool.connect("lab") as host:
        image, output = host.location(str(template)), host.location(str(target))
        done = imagetool.inject(image, disc, output, allow_unsigned=True, digest=True)
        assert done.output == f"lab:{target}"
        assert done.proof is not None
        assert imagetool.verify(output).verdict == done.proof.verdict._replace(
            required="confirmed", required_because=imagetool.verify(output).verdict.required_because
        )
        for path, name in ((template, "image"), (target, "copy")):
            assert done.digests[name] == hashlib.sha256(path.read_bytes()).hexdigest()
        with pytest.raises(imagetool.errors.WrongUsage, match="several hosts are named: lab, hv01"):
            imagetool.inject(image, disc, tmp_path / "x.vhdx", host="hv01", allow_unsigned=True)


def test_a_type_checker_knows_every_name_and_no_other(tmp_path: Path) -> None:
    program = tmp_path / "client.py"
    program.write_text("import imagetool\nimagetool.verify\nimagetool.verfiy\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), str(program)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1, done.stdout
    assert "client.py:3" in errors[0]
    assert '"verfiy"' in errors[0]
