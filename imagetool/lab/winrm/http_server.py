"""An HTTP/1.1 server on loopback: connections, their limits, requests and responses.

RFC 9112, as far as WinRM clients use it: POST, Content-Length, persistent connections.
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

from imagetool.lab.faults import Fault
from imagetool.lab.winrm import encryption, envelope, soap_faults
from imagetool.lab.winrm.authentication import ConnectionAuthenticator, Unauthorized
from imagetool.lab.winrm.fault_injection import FaultInjector
from imagetool.lab.winrm.limits import Limits
from imagetool.lab.winrm.operations import ACTION_NAMES, ShellOperations
from imagetool.lab.winrm.served_request import ServedRequest
from imagetool.lab.winrm.shells import Shells
from imagetool.lab.winrm.soap_faults import SoapFault

WSMAN_PATH = "/wsman"
_TLS_HANDSHAKE_TIMEOUT = 10.0
_MAX_SEALING_OVERHEAD = 64 << 10
_LINGER_TIMEOUT = 0.5
_MAX_DISCARDED_SIZE = 16 << 20
_READ_SIZE = 64 << 10
_MAX_SERVED_REQUESTS = 10_000


class HttpResponse(NamedTuple):
    """A response to a request."""

    status: int
    body: bytes = b""
    content_type: str = encryption.SOAP_CONTENT_TYPE
    challenges: tuple[str, ...] = ()
    close: bool = False


class ConnectionDropped(Exception):
    """The connection is closed without a response."""


class HttpServer(socketserver.TCPServer):
    """Listens on 127.0.0.1; a thread for each connection."""

    allow_reuse_address = True
    request_queue_size = 64

    def __init__(
        self,
        port: int,
        tls: ssl.SSLContext | None,
        limits: Limits,
        faults: FaultInjector,
        new_authenticator: Callable[[], ConnectionAuthenticator],
    ) -> None:
        super().__init__(("127.0.0.1", port), ClientConnection)
        self.tls = tls
        self.limits = limits
        self.faults = faults
        self.new_authenticator = new_authenticator
        self.closing = threading.Event()
        self.served_requests: deque[ServedRequest] = deque(maxlen=_MAX_SERVED_REQUESTS)
        self.operations: ShellOperations
        self.shells: Shells
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    def start(self, operations: ShellOperations, shells: Shells) -> None:
        """Begin to serve."""
        self.operations = operations
        self.shells = shells
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that the server listens on."""
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
            with contextlib.suppress(OSError, ConnectionDropped, ValueError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._handle_connection(connection)
        finally:
            with self._lock:
                self._connections.pop(connection, None)
            connection.close()

    def _handle_connection(self, connection: socket.socket) -> None:
        peer = ("127.0.0.1", 0)
        if self.tls is None:
            ClientConnection(connection, peer, self)
            return
        connection.settimeout(_TLS_HANDSHAKE_TIMEOUT)
        # A duplicate, so that close() can shut the socket down during a handshake.
        with self.tls.wrap_socket(connection.dup(), server_side=True) as secured:
            ClientConnection(secured, peer, self)

    def close(self) -> None:
        """Stop listening, and end every connection."""
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


class ClientConnection(BaseHTTPRequestHandler):
    """Serves the requests of one connection."""

    protocol_version = "HTTP/1.1"
    server_version = "imagetool-lab"
    sys_version = ""
    # Malformed request lines get a full response too, not the bare one of HTTP/0.9.
    default_request_version = "HTTP/1.0"
    # Buffered: one packet for a response, or Nagle's algorithm would delay its rest.
    wbufsize = -1
    server: HttpServer

    def setup(self) -> None:
        """Set the connection's timeout and its authenticator."""
        super().setup()
        self.connection.settimeout(self.server.limits.connection_timeout_ms / 1000)
        self.authenticator = self.server.new_authenticator()

    def log_message(self, format: str, *args: object) -> None:
        """Do nothing: Endpoint.served_requests has the requests."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Respond without a body, and close the connection."""
        self.close_connection = True
        self._send(HttpResponse(code, close=True), "", 0, None)

    def do_POST(self) -> None:
        """Respond to a request."""
        length = self._content_length()
        if isinstance(length, HttpResponse):
            self._send(length, "", 0, None)
            return
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionDropped
        self.action = "Authenticate"
        self.due_faults: dict[str, Fault] = {}
        answer = self._respond(body)
        if "delay" in self.due_faults and self.server.closing.wait(
            self.due_faults["delay"].seconds
        ):
            raise ConnectionDropped
        if "drop after" in self.due_faults:
            self.server.served_requests.append(ServedRequest(self.action, 0, length, 0))
            raise ConnectionDropped
        self._send(answer, self.action, length, self.due_faults.get("drop within"))

    def _content_length(self) -> int | HttpResponse:
        """Return the length of the body, or the response that rejects the request."""
        if self.path.partition("?")[0].rstrip("/").lower() != WSMAN_PATH:
            return HttpResponse(404, close=True)
        coding = self.headers.get_all("Transfer-Encoding")
        lengths = set(self.headers.get_all("Content-Length") or ())
        if coding is not None:
            return HttpResponse(400 if lengths else 411, close=True)
        if not lengths:
            return HttpResponse(411, close=True)
        value = lengths.pop()
        if lengths or not value.isascii() or not value.isdigit():
            return HttpResponse(400, close=True)
        # A sealed message is a few bytes longer for each 16 KB.
        max_length = self.server.limits.max_envelope_size * 2 + _MAX_SEALING_OVERHEAD
        if len(value) > 10 or int(value) > max_length:
            return HttpResponse(413, close=True)
        return int(value)

    def handle_expect_100(self) -> bool:
        """Send 100 Continue only where the body will be read."""
        length = self._content_length()
        if isinstance(length, HttpResponse):
            self._send(length, "", 0, None)
            return False
        return super().handle_expect_100()

    def _begin_action(self, action: str) -> None:
        self.action = action
        self.due_faults = {fault.kind: fault for fault in self.server.faults.take_due(action)}
        if "drop before" in self.due_faults:
            self.server.served_requests.append(ServedRequest(action, 0, 0, 0))
            raise ConnectionDropped

    def _respond(self, body: bytes) -> HttpResponse:
        if self.headers.get("WSMANIDENTIFY", "").strip().lower() == "unauthenticated":
            return self._identify(body)
        try:
            challenges = tuple(self.authenticator.authenticate(self.headers.get("Authorization")))
        except Unauthorized as unauthorized:
            self._begin_action("Authenticate")
            return HttpResponse(401, challenges=tuple(unauthorized.challenges))
        context = self.authenticator.context
        content_type = self.headers.get("Content-Type", "")
        try:
            protocol = encryption.parse_protocol(content_type)
            if protocol is not None:
                if context is None:
                    raise encryption.UnsealError("nobody's context")
                body = encryption.unseal(context, content_type, body)
        except encryption.UnsealError:
            # As WinRM: a message that another connection's context sealed is a bad request.
            return HttpResponse(400, challenges=challenges)
        if not body:
            # Clients that seal their messages send an empty one first, for the handshake.
            self._begin_action("Authenticate")
            return HttpResponse(200, challenges=challenges)
        if protocol is None and self.server.tls is None:
            return HttpResponse(500, challenges=challenges)  # AllowUnencrypted is false
        answer = self._process_envelope(body)
        if protocol is not None and context is not None:
            content_type, sealed = encryption.seal(context, protocol, answer.body)
            answer = answer._replace(body=sealed, content_type=content_type)
        return answer._replace(challenges=challenges)

    def _identify(self, body: bytes) -> HttpResponse:
        try:
            if not envelope.is_identify(envelope.parse(body)):
                raise soap_faults.unknown_action("")
        except SoapFault as fault:
            return HttpResponse(400, envelope.build_fault(fault, ""))
        self._begin_action("Identify")
        return HttpResponse(200, envelope.build_identify_response(False))

    def _process_envelope(self, body: bytes) -> HttpResponse:
        """Respond to an envelope, with a fault where it cannot be read or processed."""
        relates_to = ""
        limits = self.server.limits
        self.action = ""
        try:
            if len(body) > limits.max_envelope_size:
                raise soap_faults.envelope_too_large(limits.max_envelope_size)
            root = envelope.parse(body)
            if envelope.is_identify(root):
                self._begin_action("Identify")
                return HttpResponse(200, envelope.build_identify_response(True))
            relates_to = envelope.read_message_id(root)
            request = envelope.read_request(root)
            self._begin_action(ACTION_NAMES.get(request.action, ""))
            if "kill" in self.due_faults:
                self.server.shells.kill(request.shell_id)
            if "busy" in self.due_faults:
                raise soap_faults.resource_busy()
            if "denied" in self.due_faults:
                raise soap_faults.access_denied(self.due_faults["denied"].status)
            action, content = self.server.operations.answer(request)
            if "timed out" in self.due_faults:
                raise soap_faults.timed_out()
            return HttpResponse(200, envelope.build_response(action, relates_to, content))
        except SoapFault as fault:
            return HttpResponse(fault.status, envelope.build_fault(fault, relates_to))

    def _send(
        self, answer: HttpResponse, action: str, received: int, drop_within: Fault | None
    ) -> None:
        self.server.served_requests.append(
            ServedRequest(action, answer.status, received, len(answer.body))
        )
        self.send_response(answer.status)
        for challenge in answer.challenges:
            self.send_header("WWW-Authenticate", challenge)
        if answer.body:
            self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if answer.close:
            self.send_header("Connection", "close")
        self.end_headers()
        if drop_within is not None:
            self.wfile.write(answer.body[: len(answer.body) // 2])
            self.wfile.flush()
            raise ConnectionDropped
        self.wfile.write(answer.body)
        self.wfile.flush()
        if answer.close:
            self._linger()

    def _linger(self) -> None:
        """Discard what the client still sends: a reset would keep it from reading the response."""
        self.connection.settimeout(_LINGER_TIMEOUT)
        left = _MAX_DISCARDED_SIZE
        with contextlib.suppress(OSError):
            while left > 0 and (data := self.rfile.read1(_READ_SIZE)):
                left -= len(data)

    rfile: BufferedReader
    headers: Message
