"""Hosts by name: the user's configuration file, and imagetool.toml in the current directory.

The user's file has addresses, transports and user names of hosts. imagetool.toml may come with a
cloned repository: it may name a default host and map directories, and any other key is refused, so
that no repository decides which host gets a password. No file holds a password.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from imagetool.errors import WrongUsage
from imagetool.host.configuration.address import (
    BUILT_IN_HOSTS,
    ConfiguredHost,
    PathMap,
    is_url,
    winrm_url,
)
from imagetool.host.configuration.file import ConfigurationFile
from imagetool.host.environment import CONFIG_VARIABLE, PROJECT_FILE, user_configuration_file


@dataclass(frozen=True, slots=True)
class Configuration:
    """The hosts, default host and path maps of both files."""

    hosts: Mapping[str, ConfiguredHost] = field(default_factory=dict)
    """The user's hosts, by their names in lower case."""
    default: str = ""
    """The host that commands use by default; empty where no file names one."""
    default_by_user: bool = True
    paths: Mapping[str, PathMap] = field(default_factory=dict)
    """The path maps of ./imagetool.toml, by the names of hosts in lower case."""
    default_of_project: bool = False
    """True if ./imagetool.toml names the default host."""
    missing_files: Mapping[str, WrongUsage] = field(default_factory=dict)
    """The errors of hosts whose certificates are not there, raised when such a host is named."""

    def servicing_host(self, text: str | None = None) -> ConfiguredHost:
        """As `host`, for a command that changes an image.

        Raises WrongUsage where ./imagetool.toml alone names the host: a file that came with a
        repository must not choose who changes an image, nor make a rehearsal of it.
        """
        if text is None and self.default_of_project:
            raise WrongUsage(
                f"{PROJECT_FILE} in the current directory names the host {self.default!r}, and may "
                "not choose where an image is changed",
                hint=f"Write --host {self.default}, if that is the host.",
            )
        return self.host(text)

    def host(self, text: str | None = None, *, url_allowed: bool = True) -> ConfiguredHost:
        """Return the host of a name, an address or a URL; for None the default one, or `local`.

        Raises WrongUsage.
        """
        if text == "":
            raise WrongUsage(
                "the name of the host is empty", hint="Name a host; a variable may not be set."
            )
        named_by_user = text is not None or self.default_by_user
        text = text or self.default or "local"
        name = text.lower()
        if name in BUILT_IN_HOSTS:
            return ConfiguredHost(name)
        if name in self.missing_files:
            raise self.missing_files[name]
        host = self.hosts.get(name)
        if host is None:
            if is_url(text) and not url_allowed:
                raise WrongUsage(
                    f"{text!r}: a URL cannot stand here", hint="Write the host's name alone."
                )
            host = ConfiguredHost(text, winrm_url(text), named_by_user=named_by_user)
        return replace(host, paths=host.paths + self.paths.get(name, ()))


def read_configuration(
    directory: Path | None = None, environment: Mapping[str, str] | None = None
) -> Configuration:
    """Read the user's file, and imagetool.toml in `directory` (by default the current one).

    Raises WrongUsage for every mistake in them, with file, key and hint.
    """
    user_path, required = _user_path(os.environ if environment is None else environment)
    user = ConfigurationFile.read(user_path, required=required)
    project = ConfigurationFile.read(
        (directory or _current_directory()) / PROJECT_FILE, is_project_file=True
    )
    hosts = {name.lower(): user.host(name) for name in user.host_names()}
    paths = {
        name.lower(): project.project_path_map(name, user_path) for name in project.host_names()
    }
    mine, theirs = user.default_host(), project.default_host()
    by_user = theirs.lower() in {"", mine.lower(), *hosts}
    missing = {name: user.missing_file(host) for name, host in hosts.items()}
    return Configuration(
        hosts,
        theirs or mine,
        by_user,
        paths,
        bool(theirs),
        {name: error for name, error in missing.items() if error is not None},
    )


def _current_directory() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:  # it was deleted, and has no file
        return Path()


def _user_path(environment: Mapping[str, str]) -> tuple[Path, bool]:
    """Return the path of the user's file, and True if it must exist."""
    named = environment.get(CONFIG_VARIABLE, "")
    if named:
        path = Path(named)
        if not path.is_absolute():
            # A relative one would be looked up in the current directory, a cloned one perhaps.
            raise WrongUsage(
                f"{CONFIG_VARIABLE} is {named!r}, which is no whole path",
                hint="Name the file from its root.",
            )
        return path, True
    return Path(user_configuration_file()), False
