"""A server on a loopback socket that runs cmdlets for the stand-in PowerShell modules."""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socketserver
import threading
from pathlib import Path

from imagetool.errors import HostFailed
from imagetool.host.frames import decode_frame, encode_frame
from imagetool.lab.cmdlet import CmdletFailure, StreamRecord
from imagetool.lab.emulated_host import EmulatedHost

_MAX_REQUEST_LENGTH = 8 << 20


class CmdletServer:
    """Listens on a free loopback port until closed; answers clients that send the secret."""

    def __init__(self, emulated_host: EmulatedHost) -> None:
        self.secret = secrets.token_hex(32)
        self._lock = threading.Lock()

        class Handler(socketserver.StreamRequestHandler):
            def handle(handler) -> None:  # noqa: N805  # self is the server
                with contextlib.suppress(ConnectionError):  # a cancelled cmdlet: nobody listens
                    self._handle_request(emulated_host, handler)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()

    def write_endpoint(self, path: Path) -> None:
        """Write the port and the secret, a line each, to a file that only this user can read."""
        path.touch(mode=0o600)
        path.write_text(f"{self.port}\n{self.secret}\n", encoding="ascii")

    def _handle_request(
        self, emulated_host: EmulatedHost, handler: socketserver.StreamRequestHandler
    ) -> None:
        try:
            request = decode_frame(handler.rfile.readline(_MAX_REQUEST_LENGTH))
        except HostFailed:
            return
        if not hmac.compare_digest(str(request.get("secret")).encode(), self.secret.encode()):
            return

        def send(frame: dict[str, object]) -> None:
            handler.wfile.write(encode_frame(frame))
            handler.wfile.flush()

        def report(record: StreamRecord) -> None:
            send({"kind": record.kind, "text": record.text, "percent": record.percent})

        parameters = request.get("parameters")
        with self._lock:  # one cmdlet at a time, as in a session
            try:
                results = emulated_host.call(
                    str(request.get("cmdlet")),
                    parameters if isinstance(parameters, dict) else {},
                    report,
                )
            except (CmdletFailure, OSError, ValueError) as error:
                failure = error
                if not isinstance(failure, CmdletFailure):
                    failure = CmdletFailure(f"The emulated host failed: {error}")
                send(
                    {
                        "kind": "failure",
                        "message": failure.message,
                        "hresult": failure.hresult,
                        "category": failure.category,
                        "errorid": failure.error_id,
                    }
                )
                return
            for result in results:
                send({"kind": "result", "type": result.type, "properties": result.properties})

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)
