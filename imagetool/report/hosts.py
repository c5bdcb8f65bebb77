"""The result of `host check` as text and JSON."""

from __future__ import annotations

from collections.abc import Sequence

from imagetool import __version__
from imagetool.host.check import HostReport
from imagetool.host.check.findings import HostFinding
from imagetool.report.text import format_table, safe


def host_report_text(checked: HostReport) -> str:
    """One line per fact, with advice under each that needs some."""
    text = _format_rows(checked.findings)
    if checked.trials is not None:
        text += (
            f"\nself-test of imagetool {__version__}; names of computers, users, domains and "
            "paths are taken out\n" + _format_rows(checked.trials)
        )
    return text


def _format_rows(rows: Sequence[HostFinding]) -> str:
    lines = format_table((row.state, row.name, row.found) for row in rows).splitlines()
    said = []
    for row, line in zip(rows, lines, strict=True):
        said.append(line)
        if row.advice:
            said.append(f"        {safe(row.advice)}")
    return "".join(f"{line}\n" for line in said)


def host_report_data(checked: HostReport) -> dict[str, object]:
    """The content of an `imagetool/host-check/1` document."""
    host = checked.host
    data: dict[str, object] = {
        "host": host.name,
        "url": host.url or None,
        "transport": host.transport if host.remote else None,
        "path": checked.path or None,
        "usable": checked.usable,
        "facts": [_row_data(row) for row in checked.findings],
    }
    if checked.trials is not None:
        data["imagetool"] = __version__
        data["self_test"] = [_row_data(row) for row in checked.trials]
    return data


def _row_data(row: HostFinding) -> dict[str, object]:
    return {
        "name": row.name,
        "state": str(row.state),
        "found": row.found,
        "advice": row.advice or None,
    }
