"""plan, and inject by a saved plan: what is reviewed is done, or nothing is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagetool.errors import Corrupt, Unreadable
from imagetool.package import open_package
from imagetool.servicing.plan import Plan, read_plan
from imagetool.servicing.planning import Target
from imagetool.servicing.targets import strategy_for
from tests.program import refused, run
from tests.schema_check import check_document
from tests.servicing.injecting import prepare

pytestmark = pytest.mark.usefixtures("writers")

LAB = ("--host", "lab", "--allow-unsigned")


@pytest.fixture
def files(template: Path, disc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory, the current one, with template.vhdx and vmguest.iso."""
    monkeypatch.setenv("IMAGETOOL_LAB_ENGINE", "python")
    monkeypatch.chdir(tmp_path)
    shutil.copy2(template, tmp_path / "template.vhdx")
    shutil.copy2(disc, tmp_path / "vmguest.iso")
    return tmp_path


def save_plan(*options: object) -> dict[str, Any]:
    """Plan template.vhdx, save the plan as plan.json, and return it."""
    done = run("plan", "template.vhdx", "--package", "vmguest.iso", *LAB, "--save", "plan.json",
               *options)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(Path("plan.json").read_text("utf-8"))
    return found


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def test_a_plan_says_what_would_be_done_and_touches_nothing(files: Path) -> None:
    before = {item: (item.read_bytes(), item.stat().st_mtime_ns) for item in files.iterdir()}
    done = run("plan", "template.vhdx", "--package", "vmguest.iso", *LAB)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "template.vhdx: would be serviced as a copy"
    assert done.stdout.endswith("nothing was touched\n")
    assert f"output   {files}/template-serviced.vhdx" in done.stdout
    assert {item: (item.read_bytes(), item.stat().st_mtime_ns) for item in files.iterdir()} == (
        before
    )
    text = run("plan", "template.vhdx", "--package", "vmguest.iso", *LAB, "--format", "json").stdout
    check_document(text)
    document = json.loads(text)
    with open_package(files / "vmguest.iso") as media:
        package = next(p for p in media.packages if p.name == document["package"]["name"])
        assert document["package"]["members"] == {
            member.name: hashlib.sha256(package.read(member.name)).hexdigest()
            for member in package.members()
        }
        assert document["package"]["sha256"] == hashlib.sha256(package.read_cabinet()).hexdigest()
    steps = [step["name"] for step in document["steps"]]
    assert steps[:3] == ["directory", "stage", "copy"]
    assert steps[-3:] == ["prove", "compare", "publish"]


def test_a_saved_plan_is_read_as_it_was_made(files: Path) -> None:
    save_plan("--digest")
    plan = read_plan("plan.json")
    assert json.loads(plan.to_json()) == json.loads(Path("plan.json").read_text("utf-8"))


def test_a_saved_plan_is_done_from_anywhere_and_once(
    files: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_plan("--output", "serviced.vhdx", "--digest")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    plan = files / "plan.json"
    assert "is unsigned" in refused(1, "inject", "--plan", plan)
    done = run("inject", "--plan", plan, "--allow-unsigned", "--format", "json")
    assert done.returncode == 0, done.stderr
    check_document(done.stdout)
    document = json.loads(done.stdout)
    (image,) = document["images"]
    assert image["outcome"] == "injected"
    assert image["emulated"] is True
    assert [step["name"] for step in image["steps"]] == [
        step["name"] for step in image["plan"]["steps"]
    ]
    saved = json.loads(plan.read_text("utf-8"))
    assert image["plan"] == {key: saved[key] for key in saved if key != "schema"}
    for key, name in (("image", "template.vhdx"), ("output", "serviced.vhdx")):
        digest = hashlib.sha256((files / name).read_bytes()).hexdigest()
        assert image["digests"][key] == digest
    assert names(files) == ["plan.json", "serviced.vhdx", "template.vhdx", "vmguest.iso"]
    assert "there is a file of that name already" in refused(
        7, "inject", "--plan", plan, "--allow-unsigned"
    )


def flip(path: Path, offset: int) -> None:
    """Change a byte and put the times back."""
    state = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def flip_in_package(plan: dict[str, Any]) -> None:
    """Change a byte in the middle of the planned cabinet, where it lies on the disc."""
    with open_package("vmguest.iso") as media:
        cabinet = next(
            package.read_cabinet()
            for package in media.packages
            if package.name == plan["package"]["name"]
        )
    disc = Path("vmguest.iso")
    flip(disc, disc.read_bytes().index(cabinet) + len(cabinet) // 2)


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "written again": (lambda plan: Path("template.vhdx").touch(), "it was written at"),
    "a byte, times put back": (
        lambda plan: flip(Path("template.vhdx"), plan["image"]["read"]["ranges"][-1][0] + 1),
        "some are others|cannot|damaged|pending|no package|is not",
    ),
    "longer": (lambda plan: os.truncate("template.vhdx", 80 << 20), "its size is"),
    "a byte of the package": (
        lambda plan: flip_in_package(plan),
        "package|cabinet|altered|damaged",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_plan_is_blocked_where_image_or_package_changed(files: Path, change: str) -> None:
    plan = save_plan("--output", "serviced.vhdx")
    CHANGES[change][0](plan)
    before = names(files)
    done = run("inject", "--plan", "plan.json", "--allow-unsigned")
    assert done.returncode in (1, 3), done.stderr
    assert re.search(CHANGES[change][1], done.stderr), done.stderr
    assert names(files) == before


def test_another_package_of_the_same_name_blocks_the_plan(files: Path) -> None:
    save_plan("--output", "serviced.vhdx")
    with open_package("vmguest.iso") as media:
        cabinets = {package.name: package.read_cabinet() for package in media.packages}
    name = read_plan("plan.json").package.name
    Path("vmguest.iso").unlink()
    Path("vmguest.iso").write_bytes(cabinets[name])  # the same cabinet, another medium
    assert "the plan is blocked" in refused(1, "inject", "--plan", "plan.json", "--allow-unsigned")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["other.vhdx"], "the plan is for"),
        (["--package", "other.iso"], "the plan is for"),
        (["--host", "local"], "the plan is for the host lab"),
        (["--output", "x.vhdx"], "the plan says what its output is"),
        (["--digest"], "the plan says what its output is"),
    ],
)
def test_what_contradicts_a_plan_is_refused(files: Path, options: list[str], words: str) -> None:
    save_plan("--output", "serviced.vhdx")
    assert words in refused(2, "inject", "--plan", "plan.json", "--allow-unsigned", *options)


def test_a_plan_with_other_names_is_refused(files: Path) -> None:
    plan = save_plan("--output", "serviced.vhdx")
    for text in ("../../etc", "it-1234567", "it-0123456g", "template"):
        plan["steps"][0]["facts"]["name"] = text
        Path("plan.json").write_text(json.dumps(plan), "utf-8")
        assert "which imagetool does not make" in refused(
            2, "inject", "--plan", "plan.json", "--allow-unsigned"
        )


def test_steps_of_another_making_block_a_plan(files: Path) -> None:
    plan = save_plan("--output", "serviced.vhdx")
    for change in (
        lambda steps: steps.pop(8),
        lambda steps: steps[2]["facts"].update(source="/etc/passwd"),
        lambda steps: steps[-1]["facts"].update(target=str(files / "vmguest.iso")),
        lambda steps: steps.append({"name": "copy", "title": "", "facts": {}}),
    ):
        steps = json.loads(json.dumps(plan["steps"]))
        change(steps)
        Path("plan.json").write_text(json.dumps(plan | {"steps": steps}), "utf-8")
        assert "its steps would be others now" in refused(
            1, "inject", "--plan", "plan.json", "--allow-unsigned"
        )


def test_what_is_no_plan_is_said(files: Path) -> None:
    for data in (
        b"no",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"schema": "imagetool/verify/1"}',
        b"[" * 9999,
    ):
        Path("plan.json").write_bytes(data)
        assert "this is no plan" in refused(3, "inject", "--plan", "plan.json")
    assert "no such file" in refused(3, "inject", "--plan", "none.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_any_field_may_be_anything(template: Path, disc: Path, data: st.DataObject) -> None:
    """A plan whose fields are changed is read as a plan, or refused in one sentence."""
    tree = _tree(template, disc)
    node: Any = tree
    for _ in range(data.draw(st.integers(0, 3))):
        items = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(items)) if items else None
        if key is None or not isinstance(node[key], dict | list) or not node[key]:
            break
        node = node[key]
    key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
    node[key] = data.draw(JSON)
    path = template.parent / f"plan-{os.getpid()}.json"
    path.write_text(json.dumps(tree), "utf-8")
    try:
        assert isinstance(read_plan(path), Plan)
    except Corrupt as error:
        assert error.message.startswith(f"{path}: this is no plan")
    except Unreadable:
        raise
    finally:
        path.unlink()


_TREES: dict[Path, str] = {}


def _tree(template: Path, disc: Path) -> dict[str, Any]:
    if template not in _TREES:
        prepared = prepare(template, disc, Path("/new.vhdx"), allow_unsigned=True)
        _TREES[template] = prepared.plan.to_json()
    found: dict[str, Any] = json.loads(_TREES[template])
    return found


# Several images, and paths on the host


@pytest.mark.parametrize(
    ("output", "copy"),
    [
        ("D:\\images\\s.vhdx", "D:\\images\\it-"),
        ("D:/images/s.vhdx", "D:/images\\it-"),
        ("\\\\?\\D:\\images\\s.vhdx", "\\\\?\\D:\\images\\it-"),
        ("\\\\fs\\vhd\\s.vhdx", "\\\\fs\\vhd\\it-"),
        ("/srv/images\\s.vhdx", "/srv/it-"),
        ("/srv/s.vhdx", "/srv/it-"),
    ],
)
def test_the_copy_is_made_beside_the_output(
    template: Path, disc: Path, output: str, copy: str
) -> None:
    planned = prepare(template, disc, Path("/new.vhdx"), allow_unsigned=True).plan
    plan = Plan(*planned._replace(output=output))
    steps = strategy_for(Target("hv01", "D:\t.vhdx", output)).steps(plan)
    (found,) = [step.facts["target"] for step in steps if step.name == "copy"]
    assert re.fullmatch(re.escape(copy) + r"[0-9a-f]{8}\.vhdx", found)


def inject_json(
    *arguments: object,
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    done = run("inject", *arguments, "--package", "vmguest.iso", "--allow-unsigned",
               "--format", "json")  # fmt: skip
    check_document(done.stdout)
    document = json.loads(done.stdout)
    return done, document["images"]


def test_several_images_go_into_a_directory(files: Path) -> None:
    shutil.copy2("template.vhdx", "other.VHDX")
    Path("broken.vhdx").write_bytes(b"vhdxfile" + bytes(4096))
    Path("serviced").mkdir()
    done, images = inject_json("*.vhdx", "--host", "lab", "--output", "serviced")
    assert done.returncode == 3
    assert [(item["image"], item["outcome"]) for item in images] == [
        ("broken.vhdx", "failed"), ("other.VHDX", "injected"), ("template.vhdx", "injected"),
    ]  # fmt: skip
    assert images[0]["error"]["exit_code"] == 3
    assert images[0]["plan"] is None
    assert names(files / "serviced") == ["other.VHDX", "template.vhdx"]
    text = run("inject", "serviced", "--package", "vmguest.iso", *LAB, "--output", "serviced")
    assert text.stdout.splitlines()[-1] == "0 injected; 2 with nothing to do; 0 failed"
    assert text.returncode == 0


def test_two_images_of_one_name_are_refused(files: Path) -> None:
    for folder in ("a", "b", "out"):
        Path(folder).mkdir()
        if folder != "out":
            shutil.copy2("template.vhdx", folder)
    told = refused(2, "inject", "a", "b", "--package", "vmguest.iso", *LAB, "--output", "out")
    assert "b/template.vhdx: a/template.vhdx has the same name" in told


def test_image_and_output_on_the_host(files: Path) -> None:
    for image, output in (
        (f"lab:{files}/template.vhdx", f"lab:{files}/1.vhdx"),
        ("lab:template.vhdx", "lab:2.vhdx"),
        ("lab:template.vhdx", "3.vhdx"),
        ("template.vhdx", "LAB:4.vhdx"),
    ):
        done, images = inject_json(image, "--output", output)
        assert done.returncode == 0, done.stderr
        assert (images[0]["image"], images[0]["output"]) == (image, output)
    assert names(files) == [f"{n}.vhdx" for n in range(1, 5)] + ["template.vhdx", "vmguest.iso"]
    told = refused(2, "inject", "lab:template.vhdx", "--package", "vmguest.iso", "--host", "hv01",
                   "--output", "lab:x.vhdx")  # fmt: skip
    assert "several hosts are named: lab, hv01" in told
    assert "several hosts are named" in refused(
        2, "inject", "lab:t.vhdx", "--package", "vmguest.iso", "--output", "hv01:x.vhdx"
    )
