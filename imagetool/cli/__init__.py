"""What a person types: one file a command group."""

from __future__ import annotations


def main() -> None:
    """The program `imagetool`."""
    from imagetool.cli.app import run

    run()
