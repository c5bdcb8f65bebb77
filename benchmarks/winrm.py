"""The cost of a host over WinRM: round trips, bytes and rates, counted at the lab's endpoint.

Everything runs on this machine, so the network takes no time here: over a distance, add the
time of the round trips that are counted.
"""

from __future__ import annotations

import base64
import os
import statistics
import time
from pathlib import Path
from typing import NamedTuple

from imagetool.contracts import Host
from imagetool.guest.image import open_image
from imagetool.host.configuration import ConfiguredHost
from imagetool.host.configuration.credentials import Credentials
from imagetool.host.files import FileOperations
from imagetool.host.local import find_powershell
from imagetool.host.reading import HostFiles
from imagetool.host.winrm import open_winrm
from imagetool.lab.emulated_host import EmulatedHost
from imagetool.lab.session import open_lab
from imagetool.lab.winrm import Endpoint
from imagetool.verdict.verify import verify

_TIMES = 100
UPLOAD = 16 << 20
"""Bytes."""


class HttpCost(NamedTuple):
    """HTTP round trips, and bytes of their bodies in both directions."""

    trips: int
    size: int


class Measurements(NamedTuple):
    """Everything that was measured."""

    start: HttpCost
    """Without the upload of the script."""
    invoke: HttpCost
    invoke_ms: float
    local_ms: float
    """The same request to a PowerShell without WinRM."""
    first: HttpCost
    second: HttpCost
    other: HttpCost
    """Of an image that is no copy of the first."""
    verify_ms: float
    upload: HttpCost
    upload_rate: float
    """MB/s."""
    encoding_rate: float
    """MB/s that base64 within base64, made and undone here, allows."""


class _Counter:
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._seen = 0

    def take(self, without: str = "") -> HttpCost:
        served = [
            item for item in self._endpoint.served_requests[self._seen :] if item.action != without
        ]
        self._seen = len(self._endpoint.served_requests)
        return HttpCost(len(served), sum(item.received + item.sent for item in served))


def measure(image: Path, other: Path) -> Measurements:
    """Measure with images on this machine."""
    with Endpoint() as endpoint:
        host = ConfiguredHost("bench", endpoint.url)
        counter = _Counter(endpoint)
        credentials = Credentials(endpoint.user, endpoint.password)
        with open_winrm(host, lambda: credentials) as session:
            start = counter.take(without="Send")
            invoke_ms = _median(session)
            counter.take()
            session.invoke("Get-Disk", properties=("Number",))
            invoke = counter.take()
            files = HostFiles(session, "bench", lazy_close=True)
            begun = time.perf_counter()
            verify_of(image, files)
            verify_ms = (time.perf_counter() - begun) * 1000
            first = counter.take()
            verify_of(image, files)
            second = counter.take()
            verify_of(other, files)
            another = counter.take()
            upload_rate, encoding_rate = _upload(session)
            upload = counter.take()
    with open_lab(EmulatedHost(), engine=find_powershell()) as session:
        local_ms = _median(session)
    return Measurements(
        start, invoke, invoke_ms, local_ms, first, second, another, verify_ms, upload,
        upload_rate, encoding_rate,
    )  # fmt: skip


def verify_of(image: Path, files: HostFiles) -> None:
    """Verify an image on the host."""
    with open_image(str(image), files=files) as opened:
        verify(opened)


def _median(session: Host) -> float:
    found = []
    for _ in range(_TIMES):
        begun = time.perf_counter()
        session.invoke("Get-Disk", properties=("Number",))
        found.append((time.perf_counter() - begun) * 1000)
    return statistics.median(found)


def _upload(session: Host) -> tuple[float, float]:
    data = os.urandom(UPLOAD)
    folder = FileOperations(session).temporary_directory()
    begun = time.perf_counter()
    FileOperations(session).upload(data, f"{folder}/file")
    took = time.perf_counter() - begun
    begun = time.perf_counter()
    for start in range(0, len(data), 1 << 20):
        once = base64.b64encode(data[start : start + (1 << 20)])
        base64.b64decode(base64.b64decode(base64.b64encode(once)))
    return len(data) / took / 1e6, len(data) / (time.perf_counter() - begun) / 1e6
