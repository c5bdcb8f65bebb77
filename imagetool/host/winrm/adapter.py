"""An HTTP adapter for requests that limits the size of answers and the time to wait for them.

requests itself reads bodies of any size, and waits for as long as bytes trickle in. All messages to
a host go through this adapter, those of authentication included.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_CHECK_INTERVAL = 0.5

MAX_BODY_BYTES = 4 << 20
"""Bytes: hosts answer with at most MaxEnvelopeSizekb, 500 KB as a rule."""


class BoundedAdapter(HTTPAdapter):
    """An adapter with bounded answers, whose sockets another thread can shut down."""

    def __init__(self) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._answers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._deadline = math.inf
        self._closed = threading.Event()
        self._watchdog: threading.Thread | None = None
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """As HTTPAdapter's, with connection classes that record their sockets."""
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
        """As HTTPAdapter's; a body beyond MAX_BODY_BYTES ends in ChunkedEncodingError."""
        response = super().send(request, *arguments, **options)
        self._answers.add(response.raw)
        reference = weakref.ref(response.raw)  # a reference cycle would keep the socket open

        def bounded(*given: Any, **wanted: Any) -> Iterator[bytes]:
            raw, count = reference(), 0
            if raw is None:
                return
            try:
                for part in type(raw).stream(raw, *given, **wanted):
                    count += len(part)
                    if count > MAX_BODY_BYTES:
                        raise ChunkedEncodingError(f"an answer of over {MAX_BODY_BYTES} bytes")
                    yield part
            except BaseException:
                raw.close()  # else its socket stays open
                raise

        response.raw.stream = bounded
        return response

    def close(self) -> None:
        """As HTTPAdapter's; also closes the sockets of answers that were not read to their end."""
        super().close()
        self._closed.set()
        for answer in list(self._answers):
            answer.close()
        for item in list(self._sockets):
            item.close()

    @contextmanager
    def time_limit(self, seconds: float) -> Iterator[None]:
        """Shut the sockets down after that time: pending calls fail as broken connections."""
        if self._watchdog is None:
            self._watchdog = threading.Thread(
                target=self._watch_deadline, name="watch", daemon=True
            )
            self._watchdog.start()
        self._deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            self._deadline = math.inf

    def _watch_deadline(self) -> None:
        """Shut the sockets down once the deadline has passed; one thread serves all operations."""
        while not self._closed.wait(_CHECK_INTERVAL):
            if time.monotonic() > self._deadline:
                self._deadline = math.inf
                for item in list(self._sockets):
                    with contextlib.suppress(OSError):
                        item.shutdown(socket.SHUT_RDWR)
