"""The report of a command line that is wrong: it exists too, and last time's does not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from imagetool.cli.emit import empty_report, reported
from imagetool.cli.failure import report_failure
from imagetool.errors import ImagetoolError, WrongUsage

_REPORTS = {("inspect",): "inspect", ("verify",): "verify", ("package", "check"): "package-check"}
_FORMATS = ("json", "junit")


def report_wrong_usage(arguments: Sequence[str], message: str) -> None:
    """Write the report of a command that was refused for its options, if it has reports.

    Nobody has parsed them: --format and --output are taken as they stand there.
    """
    options = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    names = [item for item in options if not item.startswith("-")]
    command = next((name for key, name in _REPORTS.items() if tuple(names[: len(key)]) == key), "")
    output = _value(options, "--output") if command != "inspect" else None
    output_format = _value(options, "--format")
    if not command or output == "":
        return
    target = Path(output) if output is not None else None
    others = [
        value
        for before, item in pairwise(["", *arguments])
        if before != "--output" and not item.startswith("--output=")
        for value in (item, item.partition("=")[2])
    ]
    error = WrongUsage(message, hint=f"`imagetool {command.replace('-', ' ')} --help` has them.")
    try:
        with reported(
            command,
            target,
            output_format if output_format in _FORMATS else "text",
            lambda error: empty_report(command, error or WrongUsage(message)),
            others,
        ):
            raise error
    except ImagetoolError as raised:
        if raised is not error:  # the report cannot be written either
            report_failure(raised)


def _value(options: Sequence[str], name: str) -> str | None:
    """The last value of an option, None where it is not given."""
    found = None
    for item, following in zip(options, [*options[1:], None], strict=True):
        if item == name:
            found = following
        elif item.startswith(f"{name}="):
            found = item.removeprefix(f"{name}=")
    return found
