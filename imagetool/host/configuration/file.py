"""A configuration file: its keys, their validation, errors that name file and key."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from imagetool.errors import WrongUsage
from imagetool.host.configuration.address import (
    AUTHENTICATION_METHODS,
    BUILT_IN_HOSTS,
    ConfiguredHost,
    PathMap,
    is_url,
    parse_address,
    winrm_url,
)
from imagetool.host.configuration.path_mapping import (
    check_host_directory,
    is_unc_path,
    is_windows_path,
)
from imagetool.host.environment import CONFIG_VARIABLE, PROJECT_FILE

_MAX_BYTES = 256 << 10
# A key of many parts takes tomllib a time that grows with its square.
_MAX_PROJECT_FILE_BYTES = 16 << 10
_HOST_KEYS: dict[str, type] = {
    "url": str,
    "transport": str,
    "user": str,
    "certificate": str,
    "client_certificate": str,
    "client_key": str,
    "validate": bool,
    "delegate": bool,
    "script": str,
    "script_sha256": str,
    "dism_module": str,
    "proxy": str,
    "paths": dict,
}
_FILE_KEYS = ("certificate", "client_certificate", "client_key")
_SECRETS = ("password", "passwd", "passphrase", "secret")


class ConfigurationFile:
    """A parsed configuration file: the user's, or a project's (PROJECT_FILE)."""

    def __init__(self, path: Path, data: dict[str, object], is_project_file: bool) -> None:
        self.path = path
        self._data = data
        self._is_project_file = is_project_file
        self._refuse_secrets(data, "")
        self._check("", data, {"defaults": dict, "hosts": dict})
        self._defaults = self._table(data, "defaults", "")
        self._hosts = self._table(data, "hosts", "")
        self._check("defaults", self._defaults, {"host": str})

    @classmethod
    def read(
        cls, path: Path, *, required: bool = False, is_project_file: bool = False
    ) -> ConfigurationFile:
        """Read a file; a missing one is empty unless it is `required`. Raises WrongUsage."""
        import tomllib

        if not (required or is_project_file or path.is_absolute()):
            raise WrongUsage(f"{path}: the place of the user's configuration is no whole path")
        try:
            if path.exists() and not path.is_file():
                raise WrongUsage(f"{path}: this is no file", hint="Remove it, or write one.")
            with path.open("rb") as file:
                if not is_project_file:
                    _refuse_world_writable(path, file.fileno())
                max_bytes = _MAX_PROJECT_FILE_BYTES if is_project_file else _MAX_BYTES
                text = file.read(max_bytes + 1)
            if len(text) > max_bytes:
                raise WrongUsage(f"{path}: this is too large for a configuration")
            return cls(path, tomllib.loads(text.decode("utf-8")), is_project_file)
        except (FileNotFoundError, NotADirectoryError):
            if required:
                raise WrongUsage(
                    f"{path}: there is no such file", hint=f"Correct or unset {CONFIG_VARIABLE}."
                ) from None
            return cls(path, {}, is_project_file)
        except OSError as error:
            raise WrongUsage(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, no TOML, odd numbers
            what = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            raise WrongUsage(
                f"{path}: this is no TOML: {what}",
                hint="Paths of Windows stand in single quotes: 'D:\\images'.",
            ) from None

    def error(self, key: str, what: str, hint: str = "") -> WrongUsage:
        """Return the error for a key."""
        return WrongUsage(f"{self.path}: {key}: {what}", hint=hint)

    def _refuse_secrets(self, table: Mapping[str, object], above: str) -> None:
        for name, value in table.items():
            key = f"{above}{name}"
            if name.lower() in _SECRETS:
                raise self.error(
                    key,
                    "a password does not belong into a file",
                    "Remove it. Passwords come from IMAGETOOL_PASSWORD, from the system's keyring "
                    "(`imagetool host login HOST`), or are asked for on a terminal.",
                )
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    self._refuse_secrets(item, f"{key}.")

    def _check(self, above: str, table: Mapping[str, object], known: Mapping[str, type]) -> None:
        for name, value in table.items():
            key = f"{above}.{name}" if above else name
            kind = known.get(name)
            if kind is None and self._is_project_file and name in _HOST_KEYS:
                raise self._not_allowed(key)
            if kind is None:
                hint = f"Known here: {', '.join(known)}."
                if isinstance(value, dict):
                    hint += " A name with dots stands in quotes: [hosts.'hv01.example.org']."
                raise self.error(key, "there is no such key", hint)
            if not isinstance(value, kind):
                raise self.error(
                    key, f"must be {_TYPE_NAMES[kind]}", f"Known here: {', '.join(known)}."
                )
            if isinstance(value, str) and (not value or not value.isprintable()):
                raise self.error(key, "is empty, or has characters that cannot be shown")

    def _not_allowed(self, key: str) -> WrongUsage:
        return self.error(
            key,
            f"{PROJECT_FILE} may not say where or how a host is reached, nor as whom",
            "Only a default host and [hosts.NAME.paths] count here; the rest belongs into your own "
            "configuration.",
        )

    def _table(self, table: Mapping[str, object], name: str, above: str) -> dict[str, object]:
        value = table.get(name, {})
        if not isinstance(value, dict):
            raise self.error(f"{above}{name}", "must be a table")
        return value

    def host_names(self) -> list[str]:
        """Return the names of the hosts that have a table. Raises WrongUsage for a bad name."""
        seen: set[str] = set()
        for name in self._hosts:
            if name.lower() in BUILT_IN_HOSTS:
                raise self.error(f"hosts.{name}", "this name is taken", "Choose another.")
            if name.lower() in seen:
                raise self.error(f"hosts.{name}", "is there twice: case does not count")
            seen.add(name.lower())
            try:
                parse_address(name)
            except WrongUsage as error:
                raise self.error(f"hosts.{name}", error.message, error.hint) from None
        return list(self._hosts)

    def default_host(self) -> str:
        """Return the default host; empty where the file names none. Raises WrongUsage."""
        name = str(self._defaults.get("host", ""))
        if self._is_project_file and is_url(name):
            raise self._not_allowed("defaults.host")
        if name and name.lower() not in BUILT_IN_HOSTS:
            try:
                winrm_url(name)
            except WrongUsage as error:
                raise self.error("defaults.host", error.message, error.hint) from None
        return name

    def project_path_map(self, name: str, user_file: Path) -> PathMap:
        """Return the path map of a host in a project file. Raises WrongUsage for other keys.

        `user_file` is named in hints.
        """
        table = self._table(self._hosts, name, "hosts.")
        self._check(f"hosts.{name}", table, {"paths": dict})
        return self._path_map(name, table, user_file)

    def _path_map(
        self, name: str, table: Mapping[str, object], user_file: Path | None = None
    ) -> PathMap:
        pairs = []
        for here, there in self._table(table, "paths", f"hosts.{name}.").items():
            key = f"hosts.{name}.paths.{here!r}"
            if not isinstance(there, str):
                raise self.error(key, "must be text: the directory on the host")
            try:
                check_host_directory(there)
            except ValueError as error:
                raise self.error(key, f"{there!r} {error}") from None
            if self._is_project_file and is_unc_path(there):
                # The host would send its credentials to the server of the share.
                raise self.error(
                    key,
                    f"{PROJECT_FILE} may not send a host to a share",
                    f"It belongs into your own configuration ({user_file}).",
                )
            absolute = here if is_windows_path(here) else str(self._absolute(here))
            pairs.append((absolute, there))
        return tuple(pairs)

    def _absolute(self, text: str) -> Path:
        return self.path.parent / Path(text).expanduser()

    def host(self, name: str) -> ConfiguredHost:
        """Return a host of the user's file; `missing_file` asks for files. Raises WrongUsage."""
        table = self._table(self._hosts, name, "hosts.")
        self._check(f"hosts.{name}", table, _HOST_KEYS)
        given = {k: v for k, v in table.items() if k not in ("url", "paths")}
        for key in _FILE_KEYS:
            if key in given:
                given[key] = str(self._absolute(str(given[key])))
        try:
            url = winrm_url(str(table.get("url", name)))
        except WrongUsage as error:
            raise self.error(f"hosts.{name}.url", error.message, error.hint) from None
        paths = self._path_map(name, table)
        host = ConfiguredHost(name, url, paths=paths, **given)  # type: ignore[arg-type]  # checked
        for key, reason in _contradictions(host):
            raise self.error(f"hosts.{name}.{key}", reason)
        return host

    def missing_file(self, host: ConfiguredHost) -> WrongUsage | None:
        """Return the error for a file that a host needs and that is not there."""
        for key in _FILE_KEYS:
            path = getattr(host, key)
            if path and not os.path.isfile(path):  # noqa: PTH113  # False for any text
                return self.error(f"hosts.{host.name}.{key}", f"{path} is no file")
        return None


_TYPE_NAMES = {str: "text", bool: "true or false", dict: "a table"}


def _contradictions(host: ConfiguredHost) -> list[tuple[str, str]]:
    """Return the keys whose values are invalid or contradict others, each with a sentence."""
    plain = host.url.startswith("http:")
    by_certificate = host.transport == "certificate"
    both = bool(host.client_certificate) and bool(host.client_key)
    either = bool(host.client_certificate) or bool(host.client_key)
    proxy = urlsplit(host.proxy)
    rules = [
        ("transport", host.transport not in AUTHENTICATION_METHODS,
         f"must be one of {', '.join(AUTHENTICATION_METHODS)}"),
        ("transport", plain and host.transport == "basic",
         "basic authentication over plain http shows the password to everyone between"),
        ("transport", plain and by_certificate, "certificate needs an https URL"),
        ("transport", by_certificate and not both,
         "certificate needs client_certificate and client_key"),
        ("client_certificate", either and not by_certificate,
         'client_certificate and client_key need transport = "certificate"'),
        ("certificate", bool(host.certificate) and plain, "a certificate needs an https URL"),
        ("validate", bool(host.certificate) and not host.validate,
         "a certificate that is not validated makes no sense: leave one of both out"),
        ("delegate", host.delegate and host.transport != "kerberos",
         'only transport = "kerberos" delegates; credssp always does'),
        ("script", bool(host.script) and not is_windows_path(host.script)
         and not host.script.startswith("/"), "must be the whole path of session.ps1 on the host"),
        ("script", is_unc_path(host.script), "must be on the host itself, not on a share"),
        ("script_sha256", bool(host.script_sha256) and not host.script, "needs script"),
        ("script_sha256", not re.fullmatch("([0-9A-Fa-f]{64})?", host.script_sha256),
         "must be 64 hexadecimal digits, as Get-FileHash gives them"),
        ("dism_module", bool(host.dism_module) and not is_windows_path(host.dism_module)
         and not host.dism_module.startswith("/"),
         "must be the whole path of a PowerShell module on the host"),
        ("dism_module", is_unc_path(host.dism_module), "must be on the host, not on a share"),
        ("proxy", "@" in host.proxy, "a password does not belong into a file"),
        ("proxy", bool(host.proxy) and (proxy.scheme not in ("http", "https") or not proxy.netloc),
         "must be a URL like http://proxy:3128"),
    ]  # fmt: skip
    return [(key, reason) for key, wrong, reason in rules if wrong]


def _refuse_world_writable(path: Path, file: int) -> None:
    """Refuse a world-writable user's file: it decides which host gets the user's password."""
    if sys.platform != "win32" and os.fstat(file).st_mode & 0o002:
        raise WrongUsage(
            f"{path}: everybody may write this file, so it is not believed",
            hint=f"Take that right away: chmod o-w {shlex.quote(str(path))}",
        )
