"""What a child process inherits: everything but the password."""

from __future__ import annotations

import os

USER = "IMAGETOOL_USER"
PASSWORD = "IMAGETOOL_PASSWORD"  # noqa: S105  # the variable's name


def environment_for_children(*others: str) -> dict[str, str]:
    """This process's environment without the password, and without the variables `others`."""
    dropped = {PASSWORD, *others}
    return {name: value for name, value in os.environ.items() if name.upper() not in dropped}
