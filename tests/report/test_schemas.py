"""The schemas: true of every document, of older ones too, and nothing in them is never written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from imagetool.errors import WrongUsage
from imagetool.report import data
from imagetool.report.schemas import load_schema, schema_names
from tests.program import refused, run
from tests.report.test_documents import results
from tests.schema_check import check_document, declared_fields, written_fields

ROOT = Path(data.__file__).parents[3]
DOCUMENTS = sorted((Path(__file__).parent / "documents").glob("*.json"))
NOT_MADE_HERE = {
    "host-check": {"imagetool", "self_test"},
    "inspect": {"error", "images[].guest.distribution"},
    "verify": {"error"},
    "package-check": {"error"},
}
"""Fields of results that take long, fail early or are of Linux: other tests make these."""


@pytest.mark.parametrize("name", schema_names())
def test_a_schema_is_one_and_describes_every_field(name: str) -> None:
    schema = load_schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["properties"]["schema"]["const"] == schema["title"] == f"imagetool/{name}/1"
    assert "common.json" not in json.dumps(schema)

    def check(node: object, path: str) -> None:
        if isinstance(node, list):
            for item in node:
                check(item, path)
        elif isinstance(node, dict):
            assert "additionalProperties" not in node or "properties" not in node, path
            for field, item in node.get("properties", {}).items():
                assert item["description"].endswith("."), f"{path}.{field}"
            for key, item in node.items():
                check(item, f"{path}.{key}")

    check(schema, name)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_older_documents_keep_to_the_published_schemas(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator(load_schema(document["schema"])).validate(document)


def test_every_document_but_the_newest_has_an_older_one() -> None:
    assert {json.loads(path.read_text())["schema"] for path in DOCUMENTS} | {
        "imagetool/inject/1",
        "imagetool/plan/1",
    } == {f"imagetool/{name}/1" for name in schema_names()}


def test_what_is_declared_is_written(template: Path, disc: Path) -> None:
    written: dict[str, set[str]] = {}
    for result in results(template, disc):
        document = json.loads(result.to_json())
        name = document["schema"].split("/")[1]
        written.setdefault(name, set()).update(written_fields(document))
    for name in schema_names():
        fields = declared_fields(load_schema(name))
        never = {
            field
            for field in fields - written[name]
            if not any(field.startswith(known) for known in NOT_MADE_HERE.get(name, ()))
            and field.rpartition(".")[0] in written[name] | {""}
            and not _below_empty_list(field, written[name])
        }
        assert not never, f"{name}: {sorted(never)}"


def _below_empty_list(field: str, written: set[str]) -> bool:
    """True for a field of the items of a list that had none."""
    parent = field.rpartition(".")[0]
    return parent.endswith("[]") and not any(item.startswith(f"{parent}.") for item in written)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"verdict": "fine"}, "images"),
        ({"holds": "yes"}, "images"),
        ({"more": 1}, "images"),
        ({"present": "six"}, "images"),
    ],
)
def test_the_check_sees_what_is_wrong(template: Path, change: object, words: str) -> None:
    document = json.loads(run("verify", template, "--format", "json").stdout)
    check_document(json.dumps(document))
    assert isinstance(change, dict)
    document["images"][0].update(change)
    with pytest.raises(AssertionError, match=words):
        check_document(json.dumps(document))


def test_a_published_schema_takes_fields_that_come_later(template: Path) -> None:
    document = json.loads(run("verify", template, "--format", "json").stdout)
    document["images"][0]["later"] = document["later"] = {"a": 1}
    Draft202012Validator(load_schema("verify")).validate(document)


def test_the_command_prints_them() -> None:
    names = [line.split()[0] for line in run("schema").stdout.splitlines()]
    assert tuple(names) == schema_names()
    for name in names:
        assert json.loads(run("schema", name).stdout) == load_schema(name)
    assert load_schema("imagetool/verify/1") == load_schema("verify")
    assert "there is no schema 'common'" in refused(2, "schema", "common")
    with pytest.raises(WrongUsage):
        load_schema("../verify")


def test_every_command_with_a_tree_has_a_schema() -> None:
    folder = Path(data.__file__).parent
    made = {
        name
        for path in folder.glob("*.py")
        for name in re.findall(r'Document\(\s*"([a-z-]+)"', path.read_text(encoding="utf-8"))
    }
    assert made == set(schema_names())


def test_the_wheel_has_them(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"imagetool/report/schemas/{name}.json" for name in (*schema_names(), "common")} < names
