"""Steps are recorded before they are done, and undone from the records, wherever the work ended."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from imagetool.contracts import Host
from imagetool.errors import Corrupt
from imagetool.lab import open_lab
from imagetool.servicing.plan import PlannedStep
from imagetool.servicing.steps import Work, step_kind, step_names
from imagetool.servicing.transaction import (
    JournalFile,
    RecordList,
    StepRecord,
    Transaction,
    read_journal,
    undo_records,
)
from tests.servicing.injecting import begin, inject, prepare

pytestmark = pytest.mark.usefixtures("writers")

STEPS = (
    "directory", "stage", "copy", "mount", "access-path", "add", "read-back", "dismount", "prove",
    "compare", "digest", "publish",
)  # fmt: skip

UNDO = """
import sys
from imagetool.lab import open_lab
from imagetool.servicing.transaction import read_journal, undo_records
with open_lab() as host:
    left = undo_records(read_journal(sys.argv[1]), host)
    again = undo_records(read_journal(sys.argv[1]), host)
print(left, again)
"""


class Stopped(BaseException):
    """The client that is gone."""


class StoppingJournal(JournalFile):
    """A journal that ends the work when so many records are in it."""

    def __init__(self, path: Path, count: int) -> None:
        super().__init__(path)
        self.count = count

    def add(self, record: StepRecord) -> None:
        """Keep the record; the last one is not done."""
        super().add(record)
        self.count -= 1
        if not self.count:
            raise Stopped


def is_left(folder: Path) -> list[str]:
    """The names in a folder, but for the journal's."""
    return sorted(item.name for item in folder.iterdir() if item.name != "journal")


def abandon(host: Host, steps: tuple[PlannedStep, ...], work: Work, journal: JournalFile) -> None:
    """Run steps until the journal stops them, and undo nothing."""
    with ExitStack() as late, pytest.raises(Stopped):
        Transaction(work, journal, lambda: host, late).run(steps)
    journal.close()


@pytest.mark.parametrize("count", range(1, len(STEPS) + 1), ids=STEPS)
@pytest.mark.parametrize("script_gone", [False, True], ids=["at once", "script gone"])
def test_every_prefix_is_undone_in_another_process(
    template: Path, disc: Path, tmp_path: Path, count: int, script_gone: bool
) -> None:
    before = hashlib.sha256(template.read_bytes()).hexdigest()
    output = tmp_path / "serviced.vhdx"
    prepared = prepare(template, disc, output, allow_unsigned=True, digest=True)
    assert tuple(step.name for step in prepared.plan.steps) == STEPS
    path = tmp_path / "journal"
    host = open_lab()
    try:
        work = begin(host, prepared)
        abandon(host, prepared.plan.steps, work, StoppingJournal(path, count))
        records = read_journal(path)
        assert [record.name for record in records] == list(STEPS[:count])
        private = Path(records[0].facts["path"])
        if script_gone:
            host.close()
        done = subprocess.run(
            [sys.executable, "-c", UNDO, path], capture_output=True, text=True, check=False
        )
        assert done.stdout == "[] []\n", done.stderr
        assert is_left(tmp_path) == []
        assert not private.exists()
    finally:
        host.close()
    assert hashlib.sha256(template.read_bytes()).hexdigest() == before


def test_a_published_copy_is_taken_back_and_a_file_of_others_is_not(
    template: Path, disc: Path, tmp_path: Path
) -> None:
    """The publish step was done, and the client ended before it could say so."""
    output, path = tmp_path / "serviced.vhdx", tmp_path / "journal"
    prepared = prepare(template, disc, output, allow_unsigned=True)

    class Killed(JournalFile):
        def commit(self) -> None:
            raise Stopped

    with open_lab() as host:
        work = begin(host, prepared)
        abandon(host, prepared.plan.steps, work, Killed(path))
        assert output.exists()
        records = read_journal(path)
        assert undo_records(records, host) == []
        assert is_left(tmp_path) == []
        output.write_bytes(b"of somebody else")
        assert undo_records(records, host) == []
        assert output.read_bytes() == b"of somebody else"


def test_a_committed_journal_undoes_nothing(template: Path, disc: Path, tmp_path: Path) -> None:
    path, output = tmp_path / "journal", tmp_path / "serviced.vhdx"
    journal = JournalFile(path)
    inject(template, disc, open_lab, output, journal=journal)
    journal.close()
    assert read_journal(path) == []
    lines = [json.loads(line) for line in path.read_text("ascii").splitlines()]
    assert [line.get("step") for line in lines[:-1]] == [s for s in STEPS if s != "digest"]
    assert lines[-1] == {"committed": True}
    assert all(json.loads(json.dumps(line["facts"])) == line["facts"] for line in lines[:-1])


def test_a_record_is_on_the_disk_before_its_step_is_done(
    template: Path, disc: Path, tmp_path: Path
) -> None:
    path, output = tmp_path / "journal", tmp_path / "serviced.vhdx"
    journal, seen = JournalFile(path), []

    class Watching(RecordList):
        def add(self, record: StepRecord) -> None:
            journal.add(record)
            if record.name == "copy":
                target = Path(record.facts["target"])
                seen.append((target.exists(), path.read_text("ascii").count("\n")))

        def commit(self) -> None:
            journal.commit()

    inject(template, disc, open_lab, output, journal=Watching())
    journal.close()
    assert seen == [(False, 3)]


@pytest.mark.parametrize(
    "data",
    [b"\n", b"{}\n", b"[]\n", b'{"step": "none", "facts": {}}\n', b'{"step": "copy"}\n',
     b'{"step": "copy", "facts": 5}\n', b"\xff\n", b"[" * 9000 + b"\n",
     b'{"step": [], "facts": {}}\n'],
)  # fmt: skip
def test_what_is_no_journal_is_said(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(data)
    with pytest.raises(Corrupt, match="no journal of steps"):
        read_journal(path)


def test_a_line_that_was_cut_off_was_not_begun(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b'{"step": "copy", "facts": {"target": "x"}}\n{"step": "mou')
    assert read_journal(path) == [StepRecord("copy", {"target": "x"})]


def test_every_step_has_a_module_and_a_title() -> None:
    for name in step_names():
        kind = step_kind(name)
        assert kind.name == name
        assert kind.title[0].islower()
