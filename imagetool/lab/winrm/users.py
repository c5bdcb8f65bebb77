"""Where the acceptors of pyspnego and GSSAPI find who may come: files that the environment names.

The environment is the whole process's, so endpoints that run side by side take turns: the variables
are there as long as one of them is open (whoever copies the environment must not see it change its
size), and each says which files it means while it takes a step of a handshake. A process that an
endpoint starts does not inherit them.
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
    """The one user: `imagetool`, and a password of this start; with a keytab, Kerberos' as well."""

    def __init__(self, folder: Path, keytab: Path | None) -> None:
        self.name = "imagetool"
        self.password = secrets.token_urlsafe(24)
        file = folder / "users"
        file.touch(mode=0o600)
        # Windows takes a local account's name alone and with the machine's in front, and clients
        # say `.` for "this machine".
        domains = ("", ".", "LAB", "WORKSTATION", "LOCALHOST", socket.gethostname())
        lines = (f"{domain}:{self.name}:{self.password}\n" for domain in domains)
        file.write_text("".join(lines), encoding="utf-8")
        # Without a keytab this names none: the system's own is not for the lab.
        values = (str(file), f"FILE:{keytab or folder / 'no-keytab'}")
        self._variables = dict(zip(ACCEPTOR_VARIABLES, values, strict=True))
        with _lock:
            if not _open_users:
                _original_values.update({name: os.environ.get(name) for name in ACCEPTOR_VARIABLES})
            _open_users.append(self)
            os.environ.update(self._variables)

    def has_name(self, name: str) -> bool:
        r"""Whether a name (`user`, `domain\user`, `user@realm`) is this user's; case is nothing."""
        return name.rpartition("\\")[2].partition("@")[0].lower() == self.name

    def has_password(self, name: str, password: str) -> bool:
        """Whether name and password are right."""
        password_matches = secrets.compare_digest(password.encode(), self.password.encode())
        return self.has_name(name) and password_matches

    @contextmanager
    def acceptor_environment(self) -> Iterator[None]:
        """While an acceptor looks the user up."""
        with _lock:
            os.environ.update(self._variables)
            yield

    def close(self) -> None:
        """Leave the environment as the first endpoint found it, when this is the last."""
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
