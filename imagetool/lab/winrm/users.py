"""Where pyspnego's NTLM acceptor finds the user: a file that an environment variable names.

The variable is the whole process's, so endpoints that run side by side take turns: it is there as
long as one of them is open (whoever copies the environment must not see it change its size), and
each says which file it means while it takes a step of a handshake. A process that an endpoint
starts does not inherit it.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "NTLM_USER_FILE"
_lock = threading.RLock()
_before: list[str | None] = []
_open: list[Path] = []


class User:
    """The one user: `imagetool`, and a password of this start."""

    def __init__(self, folder: Path) -> None:
        self.name = "imagetool"
        self.password = secrets.token_urlsafe(24)
        self._file = folder / "users"
        self._file.touch(mode=0o600)
        # Windows takes a local account's name alone and with the machine's in front, and clients
        # say `.` for "this machine".
        domains = ("", ".", "LAB", "WORKSTATION", "LOCALHOST", socket.gethostname())
        lines = (f"{domain}:{self.name}:{self.password}\n" for domain in domains)
        self._file.write_text("".join(lines), encoding="utf-8")
        with _lock:
            if not _open:
                _before.append(os.environ.get(VARIABLE))
            _open.append(self._file)
            os.environ[VARIABLE] = str(self._file)

    def is_called(self, name: str) -> bool:
        r"""Whether a name (`user`, `domain\user`, `user@realm`) is this user's; case is nothing."""
        return name.rpartition("\\")[2].partition("@")[0].lower() == self.name

    def fits(self, name: str, password: str) -> bool:
        """Whether name and password are right."""
        right = secrets.compare_digest(password.encode(), self.password.encode())
        return self.is_called(name) and right

    @contextmanager
    def known(self) -> Iterator[None]:
        """While the acceptor looks the user up."""
        with _lock:
            os.environ[VARIABLE] = str(self._file)
            yield

    def close(self) -> None:
        """Leave the environment as the first endpoint found it, when this is the last."""
        with _lock:
            if self._file not in _open:
                return
            _open.remove(self._file)
            if _open:
                os.environ[VARIABLE] = str(_open[-1])
                return
            before = _before.pop()
            if before is None:
                os.environ.pop(VARIABLE, None)
            else:
                os.environ[VARIABLE] = before
