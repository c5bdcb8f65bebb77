"""The README shows what the commands print: its tour is run, and compared line by line."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.program import run

README = Path(__file__).resolve().parents[2] / "README.md"
VARYING = (
    (re.compile(r"^ +\d+\.\d s  ", re.M), "TIME "),
    (re.compile(r"/\S*/(?=serviced\.vhdx)"), "FOLDER/"),
    (re.compile(r"PowerShell \d[\w.]*|Python in place of PowerShell"), "POWERSHELL"),
)


def tour() -> list[tuple[str, str, int]]:
    """The commands of the README's tour on files here, with output and exit code."""
    text = README.read_text(encoding="utf-8")
    block = text.split("## A short tour", 1)[1].split("```", 2)[1]
    shown = re.findall(r"^\$ imagetool (.*?)\n(.*?)^# exit code (\d+)$", block, re.M | re.S)
    return [(command, output, int(code)) for command, output, code in shown]


def plain(text: str) -> str:
    """The text without what differs from run to run."""
    for pattern, word in VARYING:
        text = pattern.sub(word, text)
    return text


def test_the_tour_is_what_the_commands_print(
    demo_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab_engine: str
) -> None:
    for name in ("template.vhdx", "vmguest.iso"):
        shutil.copy(demo_files / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    commands = [item for item in tour() if "hv01:" not in item[0]]
    assert len(commands) == 7
    for command, shown, code in commands:
        done = run(*shlex.split(command))
        assert plain(done.stderr + done.stdout) == plain(shown), command
        assert done.returncode == code, command
