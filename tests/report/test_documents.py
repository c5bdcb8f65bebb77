"""Every result has one tree of data, and every format is written from the tree alone."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import pytest

from imagetool.contracts import Reportable
from imagetool.errors import Corrupt, WrongUsage
from imagetool.filesystem.listing import list_directory
from imagetool.guest.disk_map import map_disk
from imagetool.guest.image import open_image
from imagetool.guest.inspection import InspectionReport, NoInspection, inspect_image
from imagetool.guest.registry_keys import find_key, find_value
from imagetool.host.check import check_host
from imagetool.host.configuration import ConfiguredHost
from imagetool.lab import open_lab
from imagetool.package import Version, open_package
from imagetool.package.signature.check import check_media
from imagetool.package.summary import list_media, summarise_media
from imagetool.registry.listing import describe_value, list_key
from imagetool.report import data, junit, render, text
from imagetool.report import json as json_format
from imagetool.report.data import Document, build_document
from imagetool.servicing.inject import FailedInjection, Injection, InjectionReport
from imagetool.servicing.transaction import StepReport
from imagetool.verdict.verify import Criteria, NoVerdict, VerificationReport, verify
from tests.program import run
from tests.servicing.injecting import prepare

PACKAGE = Path(data.__file__).parents[2]
KEY = "HKLM\\SOFTWARE\\Microsoft\\Virtual Machine\\Auto"
NAME = "IntegrationServicesVersion"


def result_classes() -> set[type[Reportable]]:
    """Every class of the package that is declared as a result."""
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(
                isinstance(base, ast.Name) and base.id == "Reportable" for base in node.bases
            ):
                module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
                found.add(getattr(import_module(module), node.name))
    return found


def results(template: Path, disc: Path) -> Iterator[Reportable]:
    """One result of every type."""
    with open_image(template) as image, open_package(disc) as media:
        inspection, verification = inspect_image(image), verify(image, Criteria(media=[media]))
        error = Corrupt("x.vhdx: block 17 lies beyond the end", hint="Compare it.")
        yield inspection
        yield InspectionReport((inspection, NoInspection("x.vhdx", error)))
        yield verification
        yield VerificationReport((verification, NoVerdict("x.vhdx", error)))
        yield map_disk(image)
        yield list_directory(image.windows().volume.lookup("Windows"))
        key = find_key(image, KEY)
        yield describe_value(key, KEY, find_value(image, KEY, NAME))
        yield list_key(key, KEY)
        yield list_media(media)
        yield summarise_media(media)
        report = check_media(media)
        yield report
        yield report.packages[0]
        prepared = prepare(template, disc, Path("new.vhdx"), allow_unsigned=True)
        yield prepared.plan
        step = StepReport("copy", datetime.now(UTC), 1.5)
        done = Injection(
            prepared.plan, prepared.signature, "new.vhdx", "a PowerShell", True, "Installed",
            verification, (step,), {"image": "0" * 64, "copy": "1" * 64}, ("careful",), "a log",
        )  # fmt: skip
        failed = FailedInjection("other.vhdx", Corrupt("damaged", hint="Again."), None, (step,))
        yield done
        yield InjectionReport((done, failed), WrongUsage("no such option", hint="None."))
        yield check_host(ConfiguredHost("lab"), open_lab, self_test=False)


def test_every_result_has_a_tree_and_every_format_writes_it(template: Path, disc: Path) -> None:
    seen = set()
    for result in results(template, disc):
        seen.add(type(result))
        document = build_document(result)
        parsed = json.loads(json_format.render(document))
        assert parsed.pop("schema") == f"imagetool/{document.command}/1"
        assert list(parsed) == list(document.tree)
        assert result.to_json() == json_format.render(document) == render(result, "json")
        assert text.render(document) == render(result, "text")
        assert text.format_tree(document.tree).isprintable() is False  # it has line feeds
        if document.command == "verify":
            assert junit.render(document).startswith("<?xml")
    assert seen == result_classes()


def test_trees_hold_values_that_no_format_has_written_yet(template: Path) -> None:
    with open_image(template) as image:
        tree = build_document(inspect_image(image)).tree
        (found,) = tree["images"]  # type: ignore[misc]
        assert isinstance(found["guest"]["version"], Version)
        assert isinstance(found["components"]["recorded_at"], datetime)
        assert isinstance(found["components"]["in_box_packages"], list)


def test_a_document_without_a_layout_is_text_all_the_same() -> None:
    tree: dict[str, object] = {
        "image": "a\x1b[2J.vhdx",
        "count": 3,
        "holds": True,
        "at": datetime(2024, 1, 31, 12, tzinfo=UTC),
        "version": Version(6, 3, 9600, 1),
        "digest": b"\x01\xff",
        "nothing": None,
        "ranges": [(0, 512), (4096, 8)],
        "reasons": ["one", "two"],
        "steps": [{"name": "mount", "facts": {"drive": "E"}}, {"name": "add"}],
        "none": [],
    }
    assert text.render(Document("anything", tree)) == (
        "image  a\\x1b[2J.vhdx\n"
        "count  3\n"
        "holds  yes\n"
        "at  2024-01-31 12:00:00 UTC\n"
        "version  6.3.9600.1\n"
        "digest  01ff\n"
        "nothing  none\n"
        "ranges  0, 512\n"
        "ranges  4096, 8\n"
        "reasons  one\n"
        "reasons  two\n"
        "steps\n  name  mount\n  facts\n    drive  E\n"
        "steps\n  name  add\n"
    )


def test_junit_refuses_what_holds_no_verdict() -> None:
    with pytest.raises(WrongUsage, match="`disk map` holds no verdicts"):
        junit.render(Document("disk-map", {}))


def test_a_type_without_a_tree_is_a_fault() -> None:
    class Unknown(Reportable):
        pass

    with pytest.raises(TypeError, match="Unknown has no tree"):
        build_document(Unknown())


def test_the_json_of_every_command_names_its_schema(template: Path, disc: Path) -> None:
    for schema, command in {
        "inspect": ("inspect", template),
        "verify": ("verify", template),
        "disk-map": ("disk", "map", template),
        "file-list": ("file", "list", template, "Windows"),
        "registry-get": ("registry", "get", template, KEY, NAME),
        "registry-list": ("registry", "list", template, KEY),
        "package-show": ("package", "show", disc),
        "package-list": ("package", "list", disc),
        "package-check": ("package", "check", disc),
        "host-check": ("host", "check", "lab"),
    }.items():
        done = run(*command, "--format", "json")
        assert json.loads(done.stdout)["schema"] == f"imagetool/{schema}/1", done.stderr


def test_a_report_loads_only_what_its_command_and_format_need(template: Path) -> None:
    script = (
        "import sys; from imagetool.cli.app import answer; answer(sys.argv[1:]); "
        "print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "verify", template],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
    )
    loaded = set(done.stderr.splitlines())
    report = {name for name in loaded if name.startswith("imagetool.report")}
    assert report == {
        "imagetool.report",
        "imagetool.report.data",
        "imagetool.report.data.guest",
        "imagetool.report.data.verdict",
        "imagetool.report.text",
        "imagetool.report.text.verdict",
    }
    unused = {"json", "xml.etree", "imagetool.package.media", "imagetool.host.configuration"}
    assert not unused & loaded


@pytest.mark.parametrize("folder", ["report", "cli"])
def test_no_document_is_built_outside_of_the_trees(folder: str) -> None:
    """Commands hand results over, and formats take trees: neither knows the other's business."""
    for path in (PACKAGE / folder).rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if folder == "cli":
            for word in ("json.dumps", "format_table", "Document"):
                assert word not in source or path.name == "lab.py", f"{path}: {word}"
        elif path.parent.name != "data":
            for room in ("guest", "verdict", "host", "servicing"):
                assert f"from imagetool.{room}" not in source, path
