"""What the environment of this process says: variables, child processes, configuration files."""

from __future__ import annotations

import os
import sys

USER_VARIABLE = "IMAGETOOL_USER"
PASSWORD_VARIABLE = "IMAGETOOL_PASSWORD"  # noqa: S105  # the variable's name

CONFIG_VARIABLE = "IMAGETOOL_CONFIG"
"""The environment variable with the path of the user's file, in place of the default one."""

PROJECT_FILE = "imagetool.toml"
"""The name of the file in the current directory, in which few keys are allowed."""


def child_environment(*excluded: str) -> dict[str, str]:
    """Return this process's environment without the password and the variables in `excluded`."""
    dropped = {PASSWORD_VARIABLE, *excluded}
    return {name: value for name, value in os.environ.items() if name.upper() not in dropped}


def user_configuration_file() -> str:
    """Return the path of the user's configuration file, as the system places such files."""
    if sys.platform != "linux":
        from platformdirs import user_config_path

        return str(user_config_path("imagetool", appauthor=False) / "config.toml")
    # As platformdirs does, whose import takes a good part of a verdict's time.
    base = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):  # noqa: PTH117  # a relative one would be the current directory's
        base = os.path.expanduser("~/.config")  # noqa: PTH111  # texts
    return os.path.join(base, "imagetool", "config.toml")  # noqa: PTH118  # texts


def is_configured() -> bool:
    """True if there may be a configuration file to read; two questions to the file system."""
    if os.environ.get(CONFIG_VARIABLE):
        return True
    return os.path.lexists(PROJECT_FILE) or os.path.lexists(user_configuration_file())
