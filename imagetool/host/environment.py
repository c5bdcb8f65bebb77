"""The environment of child processes: this process's without the password."""

from __future__ import annotations

import os

USER_VARIABLE = "IMAGETOOL_USER"
PASSWORD_VARIABLE = "IMAGETOOL_PASSWORD"  # noqa: S105  # the variable's name


def child_environment(*excluded: str) -> dict[str, str]:
    """Return this process's environment without the password and the variables in `excluded`."""
    dropped = {PASSWORD_VARIABLE, *excluded}
    return {name: value for name, value in os.environ.items() if name.upper() not in dropped}
