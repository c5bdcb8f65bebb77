"""Users for the acceptors of pyspnego and GSSAPI, in files that environment variables name.

The environment belongs to the whole process, so endpoints that run side by side take turns: the
variables are set as long as one endpoint is open (copying the environment while its size changes
fails), and each endpoint sets their values for a step of a handshake. Processes that an endpoint
starts do not inherit them.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ACCEPTOR_VARIABLES = ("NTLM_USER_FILE", "KRB5_KTNAME")
_lock = threading.RLock()
_original_values: dict[str, str | None] = {}
_open_users: list[User] = []


class User:
    """The endpoint's user `imagetool`, with a new password; with a keytab, for Kerberos as well."""

    def __init__(self, folder: Path, keytab: Path | None) -> None:
        self.name = "imagetool"
        self.password = secrets.token_urlsafe(24)
        file = folder / "users"
        file.touch(mode=0o600)
        # Windows accepts a local account's name alone and behind the machine's, and clients write
        # `.` for "this machine".
        domains = ("", ".", "LAB", "WORKSTATION", "LOCALHOST", socket.gethostname())
        lines = (f"{domain}:{self.name}:{self.password}\n" for domain in domains)
        file.write_text("".join(lines), encoding="utf-8")
        # Without a keytab the path does not exist, so that the system's keytab is not used.
        values = (str(file), f"FILE:{keytab or folder / 'no-keytab'}")
        self._variables = dict(zip(ACCEPTOR_VARIABLES, values, strict=True))
        with _lock:
            if not _open_users:
                _original_values.update({name: os.environ.get(name) for name in ACCEPTOR_VARIABLES})
            _open_users.append(self)
            os.environ.update(self._variables)

    def has_name(self, name: str) -> bool:
        r"""True if a name (`user`, `domain\user`, `user@realm`) is this user's, in any case."""
        return name.rpartition("\\")[2].partition("@")[0].lower() == self.name

    def has_password(self, name: str, password: str) -> bool:
        """True if name and password are this user's."""
        password_matches = secrets.compare_digest(password.encode(), self.password.encode())
        return self.has_name(name) and password_matches

    @contextmanager
    def acceptor_environment(self) -> Iterator[None]:
        """Set the environment variables for a step of an acceptor."""
        with _lock:
            os.environ.update(self._variables)
            yield

    def close(self) -> None:
        """Restore the environment if no other endpoint is open."""
        with _lock:
            if self not in _open_users:
                return
            _open_users.remove(self)
            if _open_users:
                return
            for name, value in _original_values.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
