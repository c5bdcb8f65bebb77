"""Hosts by their names: the user's configuration file, and imagetool.toml in a directory.

The user's own file says where a host is, how it is reached and as whom. imagetool.toml in the
current directory comes with whatever one has cloned: it may name a default host and say how
directories correspond, and nothing else; what it must not say is refused, never passed over, so
that no repository decides where a password goes. No file holds a password.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from imagetool.errors import WrongUsage
from imagetool.host.configuration.address import BUILT_IN_HOSTS, Host, PathMap, is_url, winrm_url
from imagetool.host.configuration.file import CONFIG_VARIABLE, PROJECT_FILE, ConfigurationFile


@dataclass(frozen=True, slots=True)
class Configuration:
    """What both files say."""

    hosts: Mapping[str, Host] = field(default_factory=dict)
    """The user's hosts, by their names in lower case."""
    default: str = ""
    """The host that commands use where none is named."""
    default_by_user: bool = True
    paths: Mapping[str, PathMap] = field(default_factory=dict)
    """What ./imagetool.toml says of directories, by the names of hosts in lower case."""

    def host(self, text: str = "", *, url_allowed: bool = True) -> Host:
        """The host that a text means; without text the default one, else `local`.

        Raises WrongUsage.
        """
        named_by_user = bool(text) or self.default_by_user
        text = text or self.default or "local"
        name = text.lower()
        if name in BUILT_IN_HOSTS:
            return Host(name)
        host = self.hosts.get(name)
        if host is None:
            if is_url(text) and not url_allowed:
                raise WrongUsage(
                    f"{text!r}: a URL cannot stand here", hint="Write the host's name alone."
                )
            host = Host(text, winrm_url(text), named_by_user=named_by_user)
        return replace(host, paths=host.paths + self.paths.get(name, ()))


def read_configuration(
    directory: Path | None = None, environment: Mapping[str, str] | None = None
) -> Configuration:
    """The configuration: the user's file, and imagetool.toml in `directory` (the current one).

    Raises WrongUsage for whatever is wrong in them: with file, key, and what would be right.
    """
    user_path, required = _user_path(os.environ if environment is None else environment)
    user = ConfigurationFile.read(user_path, required=required)
    project = ConfigurationFile.read((directory or Path.cwd()) / PROJECT_FILE, is_project_file=True)
    hosts = {name.lower(): user.host(name) for name in user.host_names()}
    paths = {
        name.lower(): project.project_path_map(name, user_path) for name in project.host_names()
    }
    mine, theirs = user.default_host(), project.default_host()
    by_user = theirs.lower() in {"", mine.lower(), *hosts}
    return Configuration(hosts, theirs or mine, by_user, paths)


def _user_path(environment: Mapping[str, str]) -> tuple[Path, bool]:
    """Where the user's file is, and whether it must be there."""
    named = environment.get(CONFIG_VARIABLE, "")
    if named:
        path = Path(named)
        if not path.is_absolute():
            # It would be looked for in whatever directory one is in, a cloned one among them.
            raise WrongUsage(
                f"{CONFIG_VARIABLE} is {named!r}, which is no whole path",
                hint="Name the file from its root.",
            )
        return path, True
    from platformdirs import user_config_path

    return user_config_path("imagetool", appauthor=False) / "config.toml", False
