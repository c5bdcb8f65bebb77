"""Trees of the results of `host`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagetool.report.data import Document, Tree, builds
from imagetool.version import __version__

if TYPE_CHECKING:
    from imagetool.host.check.check import HostReport
    from imagetool.host.check.findings import HostFinding


@builds("host.check.check.HostReport")
def _host_report(result: HostReport) -> Document:
    host = result.host
    tree: Tree = {
        "host": host.name,
        "url": host.url or None,
        "transport": host.transport if host.remote else None,
        "path": result.path or None,
        "usable": result.usable,
        "facts": [_host_finding(item) for item in result.findings],
    }
    if result.trials is not None:
        tree["imagetool"] = __version__
        tree["self_test"] = [_host_finding(item) for item in result.trials]
    return Document("host-check", tree)


def _host_finding(finding: HostFinding) -> Tree:
    return {
        "name": finding.name,
        "state": str(finding.state),
        "found": finding.found,
        "advice": finding.advice or None,
    }
