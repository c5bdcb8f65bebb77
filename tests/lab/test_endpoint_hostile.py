"""What strangers send to the endpoint: it answers with the right status, and goes on."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagetool.lab.winrm import Endpoint, Limits
from imagetool.lab.winrm.envelope import parse, parse_duration, read_request
from imagetool.lab.winrm.soap_faults import SoapFault

SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
CREATE = "<rsp:Shell><rsp:InputStreams>stdin</rsp:InputStreams></rsp:Shell>"


@pytest.fixture
def plain(serve: Callable[..., Endpoint]) -> Iterator[Callable[[bytes], tuple[int, bytes]]]:
    """Sends bytes over http and gives the status and all that came back."""
    endpoint = serve(limits=Limits(max_connections=8, connection_timeout_ms=2000))
    port = int(endpoint.url.split(":")[2].split("/")[0])

    def send(data: bytes) -> tuple[int, bytes]:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while part := connection.recv(65536):
                answer += part
        return int(answer.split()[1]) if answer.startswith(b"HTTP/") else 0, answer

    yield send
    status, _ = send(b"POST /wsman HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    assert status == 401, "the endpoint does not answer any more"


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"POST /wsman HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
        (b"POST /wsman HTTP/1.1\r\nContent-Length: 20000000\r\n\r\n", 413),
        (b"POST /wsman HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /wsman HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        ("POST /wsman HTTP/1.1\r\nContent-Length: ٣\r\n\r\n".encode(), 400),
        (b"POST /wsman HTTP/1.1\r\n\r\n", 411),
        (b"POST /wsman HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (
            b"POST /wsman HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"
            b"0\r\n\r\n",
            400,
        ),
        (b"POST /other HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 404),
        (b"GET /wsman HTTP/1.1\r\n\r\n", 501),
        (b"POST /wsman HTTP/9.9\r\n\r\n", 505),
        (b"POST /wsman\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"POST /wsman HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"POST /wsman HTTP/1.1\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", 431),
        (b"POST /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"POST /wsman HTTP/1.1\r\nContent-Length: 100\r\n\r\nshort", 0),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100, 400),
        (b"", 0),
    ],
)
def test_http_is_bounded(
    plain: Callable[[bytes], tuple[int, bytes]], request_head: bytes, status: int
) -> None:
    found, answer = plain(request_head)
    assert (found, b"Traceback" in answer) == (status, False)


NTLM = base64.b64encode(
    b"NTLMSSP\0" + struct.pack("<II", 3, 0) + b"\xff" * 60
)  # a last message before the first


@pytest.mark.parametrize(
    "header",
    [
        b"Basic " + base64.b64encode(b"imagetool:x"),
        b"Basic !!!",
        b"Negotiate",
        b"Negotiate ?",
        b"Negotiate YII=",
        b"Negotiate " + NTLM,
        b"NTLM " + NTLM,
        b"Negotiate " + base64.b64encode(b"NTLMSSP\0\1\0\0\0" + b"\0" * 4),
        b"Negotiate " + b"A" * 60_000,
        b"Kerberos " + base64.b64encode(b"\x60\x82\xff\xff\x06"),
        b"CredSSP AAAA",
        b"CredSSP " + base64.b64encode(b"\x16\x03\x01\xff\xff"),
        b"Digest username=x",
        b"\xff\xfe",
        b"",
    ],
)
def test_garbage_does_not_authenticate(
    plain: Callable[[bytes], tuple[int, bytes]], header: bytes
) -> None:
    head = b"POST /wsman HTTP/1.1\r\nAuthorization: " + header + b"\r\nContent-Length: 0\r\n\r\n"
    status, answer = plain(head)
    assert status == 401
    assert b"Basic" not in answer


def test_a_sealed_message_of_nobody_is_refused(
    plain: Callable[[bytes], tuple[int, bytes]],
) -> None:
    head = (
        b'POST /wsman HTTP/1.1\r\nContent-Type: multipart/encrypted;protocol="application/'
        b'HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"\r\nContent-Length: 4\r\n\r\n'
    )
    assert plain(head + b"\0\0\0\0")[0] == 401


def test_a_connection_that_is_silent_ends(serve: Callable[..., Endpoint]) -> None:
    endpoint = serve(limits=Limits(connection_timeout_ms=200))
    port = int(endpoint.url.split(":")[2].split("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        started = time.monotonic()
        assert connection.recv(1) == b""
        assert time.monotonic() - started < 5


def test_there_are_only_so_many_connections(serve: Callable[..., Endpoint]) -> None:
    endpoint = serve(limits=Limits(max_connections=2))
    port = int(endpoint.url.split(":")[2].split("/")[0])
    opened = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(2)]
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as third,
        contextlib.suppress(ConnectionResetError),
    ):
        assert third.recv(1) == b""
    for connection in opened:
        connection.close()


def test_a_connection_stays_open_and_sound(raw: object, soap: Callable[..., str]) -> None:
    status, text, _ = raw.post(soap("Create", CREATE))
    assert (status, "ShellId" in text) == (200, True)
    socket_before = raw.connection.sock
    for body in ("<", "<a/>", soap("Delete", "", "nothing"), soap("Create", CREATE)):
        raw.post(body)
    assert raw.connection.sock is socket_before


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;">]>'
)


@pytest.mark.parametrize(
    "body",
    [
        "<",
        "\0" * 100,
        "<a>" * 150_000,
        "<a>" + "<b/>" * 100_000 + "</a>",
        BOMB + "<s:Envelope xmlns:s='http://www.w3.org/2003/05/soap-envelope'>&c;</s:Envelope>",
        '<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>',
        '<?xml version="1.0" encoding="nothing"?><x/>',
        "<x/>",
        "<s:Envelope xmlns:s='http://www.w3.org/2003/05/soap-envelope'/>",
    ],
    ids=range(9),
)
def test_xml_that_is_no_request_is_a_fault(raw: object, body: str) -> None:
    started = time.monotonic()
    status, text, _ = raw.post(body)
    assert status == 500
    assert "<s:Fault>" in text
    assert "root:" not in text
    assert time.monotonic() - started < 2


def test_an_envelope_has_its_limit(raw: object, soap: Callable[..., str]) -> None:
    status, text = raw.ask("Create", f"<rsp:Shell>{'x' * 520_000}</rsp:Shell>")
    assert status == 500
    assert "w:EncodingLimit" in text
    status, _, headers = raw.post(b"x" * 2_000_000)
    assert (status, headers["Connection"]) == (413, "close")
    raw.connection.close()
    assert raw.ask("Create", CREATE, size="8191")[0] == 500
    assert raw.ask("Create", CREATE, size="8192")[0] == 200


def shell_of(text: str) -> str:
    return text.partition("<rsp:ShellId>")[2].partition("<")[0]


@pytest.mark.parametrize(
    ("action", "content", "said"),
    [
        ("Put", "", "a:ActionNotSupported"),
        ("http://schemas.xmlsoap.org/ws/2004/09/transfer/Put", "", "a:ActionNotSupported"),
        ("Command", "", "w:SchemaValidationError"),
        ("Command", "<rsp:CommandLine><rsp:Argument/></rsp:CommandLine>", "element Argument"),
        ("Command", '<rsp:CommandLine CommandId="1"/>', "no identifier of a command"),
        ("Send", "<rsp:Send><rsp:Stream Name='stdin' CommandId='1'/></rsp:Send>", "identifier"),
        ("Send", "<rsp:Send><rsp:Stream Name='other'/></rsp:Send>", "no stream"),
        ("Receive", "<rsp:Receive/>", "DesiredStream is missing"),
        ("Receive", "<rsp:Receive><rsp:DesiredStream/></rsp:Receive>", "2150858843"),
        ("Signal", "<rsp:Signal CommandId='1'><rsp:Code>x</rsp:Code></rsp:Signal>", "no signal"),
    ],
)
def test_a_shell_refuses_what_makes_no_sense(
    raw: object, action: str, content: str, said: str
) -> None:
    shell = shell_of(raw.ask("Create", CREATE)[1])
    status, text = raw.ask(action, content, shell)
    assert status == 500
    assert said in text
    assert raw.ask("Get", "", shell)[0] == 200


@pytest.mark.parametrize(
    ("content", "header", "said"),
    [
        (CREATE, {"timeout": "5"}, "no xs:duration"),
        (CREATE, {"size": "many"}, "no number of bytes"),
        (CREATE, {"resource": "http://other"}, "a:DestinationUnreachable"),
        (CREATE, {"extra": '<x s:mustUnderstand="true"/>'}, "s:MustUnderstand"),
        ("<rsp:Shell ShellId='x'/>", {}, "no identifier of a shell"),
        ("<rsp:Shell><rsp:IdleTimeOut>300</rsp:IdleTimeOut></rsp:Shell>", {}, "no xs:duration"),
        (
            "<rsp:Shell><rsp:Environment><rsp:Variable Name='a=b'/></rsp:Environment></rsp:Shell>",
            {},
            "no name of an environment variable",
        ),
        ("", {}, "element Shell is missing"),
    ],
)
def test_a_shell_is_not_made_of_nonsense(
    raw: object, content: str, header: dict[str, str], said: str
) -> None:
    status, text = raw.ask("Create", content, **header)
    assert status == 500
    assert said in text
    assert raw.endpoint.shell_count == 0


def test_base64_that_is_none_is_refused(raw: object) -> None:
    shell = shell_of(raw.ask("Create", CREATE)[1])
    line = "<rsp:CommandLine><rsp:Command>pwsh</rsp:Command></rsp:CommandLine>"
    command = raw.ask("Command", line, shell)[1].partition("<rsp:CommandId>")[2].partition("<")[0]
    stream = f"<rsp:Send><rsp:Stream Name='stdin' CommandId='{command}'>***</rsp:Stream></rsp:Send>"
    status, text = raw.ask("Send", stream, shell)
    assert (status, "no base64" in text) == (500, True)


def test_identifiers_that_a_client_chooses_are_taken_once(raw: object) -> None:
    chosen = "11111111-2222-3333-4444-55555555555A"
    content = f'<rsp:Shell ShellId="{chosen.lower()}"/>'
    assert shell_of(raw.ask("Create", content)[1]) == chosen
    assert raw.ask("Create", content)[0] == 500
    assert raw.ask("Delete", "", chosen.lower())[0] == 200


def test_a_shell_may_ask_to_live_for_ever(raw: object) -> None:
    text = raw.ask("Create", "<rsp:Shell><rsp:IdleTimeOut>P999999D</rsp:IdleTimeOut></rsp:Shell>")[
        1
    ]
    assert "<rsp:IdleTimeOut>PT2147483.000S</rsp:IdleTimeOut>" in text
    assert raw.ask("Get", "", shell_of(text))[0] == 200


def test_a_silent_handshake_holds_nobody_up(raw: object, soap: Callable[..., str]) -> None:
    with socket.create_connection(("127.0.0.1", raw.port), timeout=10):
        assert raw.ask("Create", CREATE)[0] == 200


def test_plain_http_to_the_https_port_ends_the_connection(raw: object) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", raw.port, timeout=10)
    with pytest.raises((http.client.BadStatusLine, ConnectionError)):
        connection.request("POST", "/wsman", b"")
        connection.getresponse()
    connection.close()
    assert raw.ask("Create", CREATE)[0] == 200


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT20S", 20), ("PT60.000S", 60), ("PT1H2M3S", 3723), ("P1DT1S", 86_401), ("P0DT0H0M0S", 0)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "20", "P", "PT", "P1DT", "PTS", "-PT1S", "P1Y", "PT1e9S"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(SoapFault):
        parse_duration(text)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_bytes_are_an_envelope_or_refused(data: st.DataObject) -> None:
    """A sound envelope with some of its bytes changed."""
    from tests.lab.conftest import envelope

    sound = bytearray(envelope("Create", CREATE).encode())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(sound) - 1))
        sound[place : place + 1] = data.draw(st.binary(max_size=3))
    with contextlib.suppress(SoapFault):
        read_request(parse(bytes(sound)))
