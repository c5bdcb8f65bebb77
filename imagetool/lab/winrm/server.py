"""HTTP/1.1 on loopback: connections, their bounds, and the way from a request to its answer.

RFC 9112, as far as WinRM clients use it: POST, a body of known length, connections that stay open.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
from collections import deque
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler
from io import BufferedReader
from typing import NamedTuple

from imagetool.lab.winrm import encryption, envelope, refusals
from imagetool.lab.winrm.authentication import Denied, Security
from imagetool.lab.winrm.faults import Fault, Faults
from imagetool.lab.winrm.limits import Limits
from imagetool.lab.winrm.operations import ACTIONS, Operations
from imagetool.lab.winrm.refusals import Refused
from imagetool.lab.winrm.served import Served
from imagetool.lab.winrm.shells import Shells

PATH = "/wsman"
_HANDSHAKE_PATIENCE = 10.0
_SEALED_OVERHEAD = 64 << 10
_LINGER = 0.5
_MOST_DISCARDED = 16 << 20
_CHUNK = 64 << 10
_REMEMBERED = 10_000


class Answer(NamedTuple):
    """What goes back."""

    status: int
    body: bytes = b""
    content_type: str = encryption.PLAIN
    challenges: tuple[str, ...] = ()
    close: bool = False


class Dropped(Exception):
    """The connection ends here, without an answer."""


class Server(socketserver.TCPServer):
    """Listens on 127.0.0.1; a thread for each connection."""

    allow_reuse_address = True
    request_queue_size = 64

    def __init__(
        self,
        port: int,
        tls: ssl.SSLContext | None,
        limits: Limits,
        faults: Faults,
        security: Callable[[], Security],
    ) -> None:
        super().__init__(("127.0.0.1", port), Connection)
        self.tls = tls
        self.limits = limits
        self.faults = faults
        self.security = security
        self.closing = threading.Event()
        self.served: deque[Served] = deque(maxlen=_REMEMBERED)
        self.operations: Operations
        self.shells: Shells
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    def start(self, operations: Operations, shells: Shells) -> None:
        """Begin to answer."""
        self.operations = operations
        self.shells = shells
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that was asked for, or found."""
        return int(self.server_address[1])

    def process_request(self, request: object, client_address: object) -> None:
        """Serve a connection in a thread of its own, or close it where there are too many."""
        assert isinstance(request, socket.socket)
        with self._lock:
            if len(self._connections) >= self.limits.max_connections or self.closing.is_set():
                request.close()
                return
            thread = threading.Thread(target=self._serve, args=(request,), daemon=True)
            self._connections[request] = thread
        thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError, Dropped, ValueError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._answer(connection)
        finally:
            with self._lock:
                self._connections.pop(connection, None)
            connection.close()

    def _answer(self, connection: socket.socket) -> None:
        peer = ("127.0.0.1", 0)
        if self.tls is None:
            Connection(connection, peer, self)
            return
        connection.settimeout(_HANDSHAKE_PATIENCE)
        # A copy, so that close() can end the socket under a handshake that goes on.
        with self.tls.wrap_socket(connection.dup(), server_side=True) as secured:
            Connection(secured, peer, self)

    def close(self) -> None:
        """End every connection, and listen no more."""
        self.closing.set()
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join(timeout=5)
        self.server_close()
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in connections.values():
            thread.join(timeout=5)


class Connection(BaseHTTPRequestHandler):
    """One connection and its client."""

    protocol_version = "HTTP/1.1"
    server_version = "imagetool-lab"
    sys_version = ""
    # What cannot be read gets a whole answer as well, not the bare one of HTTP/0.9.
    default_request_version = "HTTP/1.0"
    # One packet for an answer: the client waits for it, and Nagle with it.
    wbufsize = -1
    server: Server

    def setup(self) -> None:
        """Give the connection its patience, and nobody's security."""
        super().setup()
        self.connection.settimeout(self.server.limits.connection_timeout_ms / 1000)
        self.security = self.server.security()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: whoever wants to know reads Endpoint.served."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """An answer without a body, after which the connection ends."""
        self.close_connection = True
        self._write(Answer(code, close=True), "", 0, None)

    def do_POST(self) -> None:
        """Answer a request."""
        length = self._length()
        if isinstance(length, Answer):
            self._write(length, "", 0, None)
            return
        body = self.rfile.read(length)
        if len(body) < length:
            raise Dropped
        self.action = "Authenticate"
        self.due: dict[str, Fault] = {}
        answer = self._answer(body)
        if "delay" in self.due and self.server.closing.wait(self.due["delay"].seconds):
            raise Dropped
        if "drop after" in self.due:
            self.server.served.append(Served(self.action, 0, length, 0))
            raise Dropped
        self._write(answer, self.action, length, self.due.get("drop within"))

    def _length(self) -> int | Answer:
        """The length of the body, or why it is not read."""
        if self.path.partition("?")[0].rstrip("/").lower() != PATH:
            return Answer(404, close=True)
        coding = self.headers.get_all("Transfer-Encoding")
        lengths = set(self.headers.get_all("Content-Length") or ())
        if coding is not None:
            return Answer(400 if lengths else 411, close=True)
        if not lengths:
            return Answer(411, close=True)
        value = lengths.pop()
        if lengths or not value.isascii() or not value.isdigit():
            return Answer(400, close=True)
        # Sealed, a message has a few bytes more for each 16 KB.
        most = self.server.limits.max_envelope_size * 2 + _SEALED_OVERHEAD
        if len(value) > 10 or int(value) > most:
            return Answer(413, close=True)
        return int(value)

    def handle_expect_100(self) -> bool:
        """Ask for the body only where it will be read."""
        length = self._length()
        if isinstance(length, Answer):
            self._write(length, "", 0, None)
            return False
        return super().handle_expect_100()

    def _happens(self, action: str) -> None:
        self.action = action
        self.due = self.server.faults.due(action)
        if "drop before" in self.due:
            self.server.served.append(Served(action, 0, 0, 0))
            raise Dropped

    def _answer(self, body: bytes) -> Answer:
        if self.headers.get("WSMANIDENTIFY", "").strip().lower() == "unauthenticated":
            return self._identify(body)
        try:
            challenges = tuple(self.security.check(self.headers.get("Authorization")))
        except Denied as denied:
            self._happens("Authenticate")
            return Answer(401, challenges=tuple(denied.challenges))
        context = self.security.context
        content_type = self.headers.get("Content-Type", "")
        try:
            protocol = encryption.protocol_of(content_type)
            if protocol is not None:
                if context is None:
                    raise encryption.NotReadable("nobody's context")
                body = encryption.unseal(context, content_type, body)
        except encryption.NotReadable:
            # As WinRM: what another connection's context sealed is a bad request here.
            return Answer(400, challenges=challenges)
        if not body:
            # A client that will seal its messages begins with an empty one, for the handshake.
            self._happens("Authenticate")
            return Answer(200, challenges=challenges)
        if protocol is None and self.server.tls is None:
            return Answer(500, challenges=challenges)  # AllowUnencrypted is false
        answer = self._process(body)
        if protocol is not None and context is not None:
            content_type, sealed = encryption.seal(context, protocol, answer.body)
            answer = answer._replace(body=sealed, content_type=content_type)
        return answer._replace(challenges=challenges)

    def _identify(self, body: bytes) -> Answer:
        try:
            if not envelope.is_identify(envelope.parse(body)):
                raise refusals.unknown_action("")
        except Refused as refused:
            return Answer(400, envelope.write_fault(refused, ""))
        self._happens("Identify")
        return Answer(200, envelope.write_identity(False))

    def _process(self, body: bytes) -> Answer:
        """The answer to an envelope, or a fault; never an exception of a reader's."""
        relates_to = ""
        limits = self.server.limits
        self.action = ""
        try:
            if len(body) > limits.max_envelope_size:
                raise refusals.too_large(limits.max_envelope_size)
            root = envelope.parse(body)
            if envelope.is_identify(root):
                self._happens("Identify")
                return Answer(200, envelope.write_identity(True))
            relates_to = envelope.message_id(root)
            request = envelope.read(root)
            self._happens(ACTIONS.get(request.action, ""))
            if "kill" in self.due:
                self.server.shells.kill(request.shell_id)
            if "busy" in self.due:
                raise refusals.busy()
            if "denied" in self.due:
                raise refusals.access_denied(self.due["denied"].status)
            action, content = self.server.operations.answer(request)
            if "timed out" in self.due:
                raise refusals.timed_out()
            return Answer(200, envelope.write(action, relates_to, content))
        except Refused as refused:
            return Answer(refused.status, envelope.write_fault(refused, relates_to))

    def _write(self, answer: Answer, action: str, received: int, cut: Fault | None) -> None:
        self.server.served.append(Served(action, answer.status, received, len(answer.body)))
        self.send_response(answer.status)
        for challenge in answer.challenges:
            self.send_header("WWW-Authenticate", challenge)
        if answer.body:
            self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if answer.close:
            self.send_header("Connection", "close")
        self.end_headers()
        if cut is not None:
            self.wfile.write(answer.body[: len(answer.body) // 2])
            self.wfile.flush()
            raise Dropped
        self.wfile.write(answer.body)
        self.wfile.flush()
        if answer.close:
            self._linger()

    def _linger(self) -> None:
        """Let the client finish what it sends, within bounds: else it would not see the answer."""
        self.connection.settimeout(_LINGER)
        left = _MOST_DISCARDED
        with contextlib.suppress(OSError):
            while left > 0 and (data := self.rfile.read1(_CHUNK)):
                left -= len(data)

    rfile: BufferedReader
    headers: Message
