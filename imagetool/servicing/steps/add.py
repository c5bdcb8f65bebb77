"""add, read-back: the payload goes into the mounted volume, and its state is read from there.

The digest of the staged package is compared on the host just before: between the two another
program could have written to it.
"""

from __future__ import annotations

from contextlib import suppress

from imagetool.errors import HostFailed, ImagetoolError, ServicingFailed
from imagetool.host.reading import HostFiles, paths
from imagetool.servicing.payloads import Staged
from imagetool.servicing.plan import Facts
from imagetool.servicing.steps import StepKind, Work
from imagetool.servicing.steps.access_path import MOUNT_NAME
from imagetool.servicing.steps.directory import LOG_NAME, SCRATCH_NAME
from imagetool.servicing.steps.stage import PACKAGE_NAME

_MAX_LOG_BYTES = 256 << 10


def _staged(work: Work) -> Staged:
    names = (PACKAGE_NAME, MOUNT_NAME, LOG_NAME, SCRATCH_NAME)
    return Staged(*(paths.join(work.directory, name, work.host.on_windows) for name in names))


def _add(work: Work, facts: Facts) -> None:
    staged = _staged(work)
    found = work.files.sha256(staged.file)
    if found != facts["sha256"]:
        raise ServicingFailed(
            f"{staged.file}: the staged package was changed on the host: its SHA-256 is {found}, "
            f"not {facts['sha256']}",
            hint="Somebody else writes there. Find out who, then try again.",
        )
    try:
        work.payload.probe(work.host, staged)
        work.payload.run(work.host, staged, work.on_event)
    finally:
        with suppress(HostFailed):  # the log is no reason to fail, nor to hide a failure
            work.dism_log = read_log(work, staged.log)


def read_log(work: Work, path: str) -> str:
    """Return the end of the log that DISM wrote; empty where it wrote none. Raises HostFailed."""
    files = HostFiles(work.host)
    try:
        file = files.open(path)
    except HostFailed:
        raise
    except ImagetoolError:  # none was written
        return ""
    try:
        start = max(0, file.size - _MAX_LOG_BYTES)
        data = file.read_at(start, file.size - start)
    finally:
        file.close()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    return data.decode(encoding, "replace")


def _read_back(work: Work, facts: Facts) -> None:
    work.package_state = work.payload.read_back(work.host, _staged(work))


KINDS = {
    "add": StepKind("add", "add {package}", _add),
    "read-back": StepKind("read-back", "read the package's state back", _read_back),
}
