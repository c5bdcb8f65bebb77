"""Credentials for a host: from the environment, the system's keyring, or a prompt, in this order.

A password is held by Credentials alone, whose repr hides it, and is given to the host's WinRM
client alone. The keyring is the optional library `keyring`; it stores a password under scheme,
host and port of the URL, so that another service on the same machine never gets it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imagetool.errors import HostFailed
from imagetool.host.environment import PASSWORD_VARIABLE, USER_VARIABLE

if TYPE_CHECKING:
    from imagetool.host.configuration.address import ConfiguredHost


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """A user and a password; without a password Kerberos uses the ticket cache."""

    user: str
    password: str = ""

    def __repr__(self) -> str:
        hidden = "(hidden)" if self.password else "(none)"
        return f"Credentials(user={self.user!r}, password={hidden})"


Prompt = Callable[[str, bool], str]
"""A function (question, secret) -> answer that prompts on the terminal."""


def credentials_for(
    host: ConfiguredHost, environment: Mapping[str, str] | None = None, ask: Prompt | None = None
) -> Credentials:
    """Return the credentials for a host. Raises HostFailed where there are none.

    Those of the environment are used only if the command line or the user's file names the host.
    """
    if host.transport == "certificate":
        return Credentials("")  # the client's certificate identifies the user
    variables: Mapping[str, str] = os.environ if environment is None else environment
    if not host.named_by_user:
        variables = {}
    user = variables.get(USER_VARIABLE) or host.user
    password = variables.get(PASSWORD_VARIABLE, "")
    if not password:
        stored = _stored_credentials(host, user)
        if stored is not None:
            return stored
        if host.transport == "kerberos":
            return Credentials(user)
    if user and password:
        return Credentials(user, password)
    ask = ask or _terminal_prompt()
    if ask is None:
        raise HostFailed(f"{host.name}: no {'password' if user else 'user'} is known for it",
                         hint=_credentials_hint(host, user))  # fmt: skip
    return _prompt_credentials(host, user, password, ask)


def _prompt_credentials(host: ConfiguredHost, user: str, password: str, ask: Prompt) -> Credentials:
    where = host.origin if host.named_by_user else f"{host.origin} (which ./imagetool.toml names)"
    user = user or ask(f"User on {where}: ", False).strip()
    if not user:
        raise HostFailed(f"{host.name}: no user was given", hint=_credentials_hint(host, user))
    return Credentials(user, password or ask(f"Password of {user} on {where}: ", True))


def _credentials_hint(host: ConfiguredHost, user: str) -> str:
    if not host.named_by_user:
        return (
            f"Only ./imagetool.toml names this host, and the environment's password is not for "
            f"such ones: name it with --host {host.name}, or in your own configuration."
        )
    what = PASSWORD_VARIABLE if user else f"{USER_VARIABLE} and {PASSWORD_VARIABLE}"
    return (
        f"Set {what}, store it with `imagetool host login {host.name}`, or run imagetool on a "
        "terminal, where it asks."
    )


def _terminal_prompt() -> Prompt | None:
    if sys.stdin is None or not sys.stdin.isatty():
        return None

    def ask(question: str, secret: bool) -> str:
        from getpass import getpass

        if secret:
            return getpass(question)
        sys.stderr.write(question)
        sys.stderr.flush()
        return sys.stdin.readline()

    return ask


# The keyring


def _keyring_service(host: ConfiguredHost) -> str:
    return f"imagetool:{host.origin}"


def _import_keyring() -> Any:
    try:
        import keyring
    except ImportError:
        return None
    return keyring


def _stored_credentials(host: ConfiguredHost, user: str) -> Credentials | None:
    keyring = _import_keyring()
    if keyring is None:
        return None
    try:
        found = keyring.get_credential(_keyring_service(host), user or None)
    except keyring.errors.KeyringError:
        return None  # locked, or no keyring on this system: prompt
    if found is None or not found.password:
        return None
    return Credentials(user or str(found.username), str(found.password))


def store_password(host: ConfiguredHost, user: str = "", ask: Prompt | None = None) -> str:
    """Prompt for a password and store it in the keyring; return the user. Raises HostFailed."""
    keyring = _require_keyring()
    ask = ask or _terminal_prompt()
    if ask is None:
        raise HostFailed("a password is asked for on a terminal, and there is none")
    credentials = _prompt_credentials(host, user or host.user, "", ask)
    try:
        keyring.set_password(_keyring_service(host), credentials.user, credentials.password)
    except keyring.errors.KeyringError as error:
        raise _keyring_error(error) from None
    return credentials.user


def delete_password(host: ConfiguredHost, user: str = "") -> str:
    """Delete a password from the system's keyring; return the user. Raises HostFailed."""
    keyring = _require_keyring()
    stored = _stored_credentials(host, user or host.user)
    if stored is None:
        raise HostFailed(f"{host.name}: the keyring has no password for {host.origin}")
    try:
        keyring.delete_password(_keyring_service(host), stored.user)
    except keyring.errors.KeyringError as error:
        raise _keyring_error(error) from None
    return stored.user


def _require_keyring() -> Any:
    keyring = _import_keyring()
    if keyring is None:
        raise HostFailed(
            "the system's keyring needs the library keyring, which is not installed",
            hint="Install imagetool[keyring].",
        )
    return keyring


def _keyring_error(error: Exception) -> HostFailed:
    return HostFailed(
        f"the system's keyring refuses ({type(error).__name__})",
        hint=f"Unlock it, or set {USER_VARIABLE} and {PASSWORD_VARIABLE}.",
    )
