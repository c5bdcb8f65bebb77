"""What answers at a host's port may be anything: one sentence, bounded memory, and an end."""

from __future__ import annotations

import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from imagetool.errors import HostFailed
from imagetool.host.configuration import ConfiguredHost
from imagetool.host.configuration.credentials import Credentials
from imagetool.host.winrm import open_winrm, shell, wsman

AnswerFrame = Callable[[socket.socket], None]
CHALLENGE = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: "


def endless(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        client.sendall(b"x" * 65536)


def endless_chunks(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        client.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def endless_challenge(client: socket.socket) -> None:
    client.sendall(CHALLENGE + b"Negotiate\r\nContent-Length: 99999999999\r\n\r\n")
    while True:
        client.sendall(b"x" * 65536)


def endless_header(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        client.sendall(b"x" * 65536)


def trickle(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        client.sendall(b"x")
        select.select([client], [], [], 0.2)


def silence(client: socket.socket) -> None:
    client.recv(1)  # until it goes


SAID: dict[str, bytes] = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a page": b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>",
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
    "basic only": CHALLENGE + b'Basic realm="x"\r\nContent-Length: 0\r\n\r\n',
    "no token": CHALLENGE + b"NTLM\r\nContent-Length: 0\r\n\r\n",
    "a broken token": CHALLENGE + b"NTLM AAAA\r\nContent-Length: 0\r\n\r\n",
    "no such page": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "a fault that is none": b"HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n\r\n<a>\xff\xfe",
    "unavailable": b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
    "a bomb": b"HTTP/1.1 500 Oops\r\nContent-Length: 126\r\n\r\n"
    b"<!DOCTYPE a [<!ENTITY b 'cccccccccc'>"
    b"<!ENTITY d '&b;&b;&b;&b;&b;&b;&b;&b;'><!ENTITY e '&d;&d;&d;&d;&d;'>]><a>&e;&e;&e;</a>     ",
}


@pytest.fixture(autouse=True)
def one_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "_START_ATTEMPTS", 1)


@pytest.fixture
def listen() -> Iterator[Callable[[AnswerFrame | bytes], str]]:
    """Serves every request the same answer; gives the URL."""
    listeners: list[socket.socket] = []

    def start(answer: AnswerFrame | bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def talk(client: socket.socket) -> None:
            with client:
                try:
                    while client.recv(65536):
                        if isinstance(answer, bytes):
                            client.sendall(answer)
                            if not answer.startswith(b"HTTP"):
                                return
                        else:
                            answer(client)
                            return
                except OSError:
                    return

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/wsman"

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def refused(url: str, transport: str = "ntlm") -> HostFailed:
    with pytest.raises(HostFailed) as caught:
        open_winrm(ConfiguredHost("hv01", url, transport), lambda: Credentials("u", "secret-4711"))  # type: ignore[arg-type]
    assert caught.value.message.startswith("hv01: ")
    assert "secret-4711" not in f"{caught.value.message} {caught.value.hint}"
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("name", SAID)
def test_whatever_else_answers_ends_in_a_sentence(
    listen: Callable[[AnswerFrame | bytes], str], name: str
) -> None:
    refused(listen(SAID[name]))


def test_nobody_is_led_elsewhere(listen: Callable[[AnswerFrame | bytes], str]) -> None:
    asked: list[bytes] = []

    def elsewhere(client: socket.socket) -> None:
        asked.append(b"asked")

    target = listen(elsewhere).encode()
    found = refused(
        listen(b"HTTP/1.1 307 Go\r\nLocation: " + target + b"\r\nContent-Length: 0\r\n\r\n")
    )
    assert "points elsewhere" in found.message
    assert asked == []


@pytest.mark.parametrize(
    "answer", [endless, endless_chunks, endless_challenge, endless_header], ids=lambda a: a.__name__
)
def test_an_answer_without_an_end_takes_no_memory(
    listen: Callable[[AnswerFrame | bytes], str], answer: AnswerFrame
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(listen(answer))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


@pytest.mark.parametrize("answer", [trickle, silence], ids=lambda a: a.__name__)
def test_an_answer_that_trickles_is_cut_off(
    listen: Callable[[AnswerFrame | bytes], str],
    answer: AnswerFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wsman, "_OPERATION_LIMIT", 1.0)
    begun = time.monotonic()
    refused(listen(answer))
    assert time.monotonic() - begun < 20
