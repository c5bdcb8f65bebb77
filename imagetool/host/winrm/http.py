"""HTTP with bounds: what a server sends is not read without an end, nor waited for without one.

requests reads whole bodies, whatever their size, and waits for as long as something trickles in.
All that goes to a host, the handshakes of authentication among it, goes through this adapter.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

LARGEST_BODY = 4 << 20
"""Bytes: hosts answer with at most MaxEnvelopeSizekb, 500 KB as a rule."""


class BoundedAdapter(HTTPAdapter):
    """An adapter whose answers are bounded, and whose connections can be cut from outside."""

    def __init__(self) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """As HTTPAdapter's, with connections whose sockets are known."""
        super().init_poolmanager(*arguments, **options)
        sockets = self._sockets

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                if isinstance(self.sock, socket.socket):
                    sockets.add(self.sock)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}

    def send(self, request: PreparedRequest, *arguments: Any, **options: Any) -> Response:
        """As HTTPAdapter's; a body beyond LARGEST_BODY ends in ChunkedEncodingError."""
        response = super().send(request, *arguments, **options)
        reference = weakref.ref(response.raw)  # a circle would keep the socket open

        def bounded(*given: Any, **wanted: Any) -> Iterator[bytes]:
            raw, count = reference(), 0
            if raw is None:
                return
            for part in type(raw).stream(raw, *given, **wanted):
                count += len(part)
                if count > LARGEST_BODY:
                    raw.close()
                    raise ChunkedEncodingError(f"the answer is larger than {LARGEST_BODY} bytes")
                yield part

        response.raw.stream = bounded
        return response

    def close(self) -> None:
        """As HTTPAdapter's; an answer that broke off keeps no socket open."""
        super().close()
        for item in list(self._sockets):
            item.close()

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Whatever is under way after that time is cut off, and fails as a broken connection."""
        timer = threading.Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self) -> None:
        for item in list(self._sockets):
            with contextlib.suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)
