"""Endpoints on loopback that leave nothing, and clients of other people's for them."""

from __future__ import annotations

import http.client
import os
import ssl
import threading
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from winrm.protocol import Protocol

from imagetool.lab.winrm import Endpoint
from tests.waiting import until


def children() -> set[int]:
    """The processes that this one has started and that are not gone."""
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return set()
    found = (task / "children" for task in tasks.iterdir())
    return {int(pid) for path in found if path.exists() for pid in path.read_text().split()}


@pytest.fixture
def serve(engine: str) -> Iterator[Callable[..., Endpoint]]:
    """Starts endpoints; afterwards no process, thread, folder or variable of theirs may be left."""
    threads, processes = set(threading.enumerate()), children()
    users = os.environ.get("NTLM_USER_FILE")
    opened: list[Endpoint] = []

    def start(**options: object) -> Endpoint:
        endpoint = Endpoint(engine=engine, **options)  # type: ignore[arg-type]
        opened.append(endpoint)
        return endpoint

    yield start
    for endpoint in opened:
        endpoint.close()
    assert children() == processes
    assert set(threading.enumerate()) <= threads
    assert os.environ.get("NTLM_USER_FILE") == users
    assert not any(endpoint._folder.exists() for endpoint in opened)


@pytest.fixture
def connect() -> Iterator[Callable[..., Protocol]]:
    """Makes pywinrm's Protocol for an endpoint."""
    made: list[Protocol] = []

    def make(endpoint: Endpoint, transport: str = "ntlm", **options: object) -> Protocol:
        trusted = str(endpoint.certificate) if endpoint.certificate else None
        options = {
            "username": endpoint.user,
            "password": endpoint.password,
            "proxy": None,
            "ca_trust_path": trusted,
            "operation_timeout_sec": 5,
            "read_timeout_sec": 10,
        } | options
        protocol = Protocol(
            str(options.pop("url", endpoint.url)), transport=transport, **options  # type: ignore[arg-type]
        )  # fmt: skip
        made.append(protocol)
        return protocol

    yield make
    for protocol in made:
        protocol.transport.close_session()


@pytest.fixture
def psrp(library: Callable[[str], ModuleType]) -> Iterator[Callable[..., object]]:
    """Makes pypsrp's WSMan for an endpoint: a client by somebody else, with another NTLM path."""
    module = library("pypsrp.wsman")
    made = []

    def make(endpoint: Endpoint, auth: str = "negotiate", **options: object) -> object:
        port = int(endpoint.url.split(":")[2].split("/")[0])
        options = {
            "server": "127.0.0.1",
            "username": endpoint.user,
            "password": endpoint.password,
            "operation_timeout": 5,
        } | options
        client = module.WSMan(
            port=port, ssl=endpoint.certificate is not None, auth=auth, no_proxy=True,
            cert_validation=str(endpoint.certificate) if endpoint.certificate else False,
            **options,
        )  # fmt: skip
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


class Raw:
    """A client that sends what it is told to, over https and with Basic."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.port = int(endpoint.url.split(":")[2].split("/")[0])
        self.context = ssl.create_default_context(cafile=str(endpoint.certificate))
        pair = f"{endpoint.user}:{endpoint.password}".encode()
        self.headers = {
            "Authorization": "Basic " + b64encode(pair).decode(),
            "Content-Type": "application/soap+xml;charset=UTF-8",
        }
        self.connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=self.context, timeout=10
        )

    def post(
        self, body: bytes | str, headers: dict[str, str] | None = None, path: str = "/wsman"
    ) -> tuple[int, str, http.client.HTTPMessage]:
        data = body.encode() if isinstance(body, str) else body
        self.connection.request("POST", path, data, self.headers if headers is None else headers)
        response = self.connection.getresponse()
        text = response.read().decode()
        return response.status, text, response.headers

    def ask(self, action: str, content: str, shell: str = "", **header: str) -> tuple[int, str]:
        status, text, _ = self.post(envelope(action, content, shell, **header))
        return status, text


SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"


def envelope(
    action: str,
    content: str,
    shell: str = "",
    *,
    timeout: str = "PT2S",
    size: str = "153600",
    resource: str = f"{SHELL}/cmd",
    extra: str = "",
) -> str:
    """An envelope; the action is a short name or a URI."""
    if ":" not in action:
        base = TRANSFER if action in ("Create", "Delete", "Get") else SHELL
        action = f"{base}/{action}"
    selector = f'<w:SelectorSet><w:Selector Name="ShellId">{shell}</w:Selector></w:SelectorSet>'
    return (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" '
        'xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" '
        'xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" '
        f'xmlns:rsp="{SHELL}"><s:Header>'
        f"<a:Action>{action}</a:Action><a:MessageID>uuid:{uuid.uuid4()}</a:MessageID>"
        f"<w:ResourceURI>{resource}</w:ResourceURI><w:OperationTimeout>{timeout}"
        f"</w:OperationTimeout><w:MaxEnvelopeSize>{size}</w:MaxEnvelopeSize>"
        f"{selector if shell else ''}{extra}</s:Header><s:Body>{content}</s:Body></s:Envelope>"
    )


@pytest.fixture
def raw(serve: Callable[..., Endpoint]) -> Iterator[Raw]:
    client = Raw(serve(https=True))
    yield client
    client.connection.close()


@pytest.fixture
def soon() -> Callable[..., bool]:
    return until


@pytest.fixture
def soap() -> Callable[..., str]:
    return envelope
