"""How lines travel between a session and its script, and how the script is started."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Protocol

from imagetool.errors import HostFailed

_END_MARK = "#end of the script"


class ConnectionBroke(HostFailed):
    """The way to the host broke: what was sent last may or may not have arrived, and answers may
    be lost. The script may live, so what was asked can be asked again (Transport.reconnect).
    """


class Transport(Protocol):
    """A way to the script: a local process, the emulated host, WinRM."""

    def send(self, data: bytes) -> None:
        """Send whole lines, each with its line feed.

        Raises HostFailed where nobody listens any more, ConnectionBroke.
        """

    def receive_line(self, timeout: float) -> bytes | None:
        """The next line, or None where none came in `timeout` seconds.

        Raises HostFailed where the script has ended, ConnectionBroke.
        """

    def reconnect(self) -> None:
        """Make the way anew after ConnectionBroke. Raises HostFailed, ConnectionBroke."""

    def close(self) -> None:
        """End the script's input, and the script with it; never raises."""


def bootstrap_command(lease: int) -> str:
    """The text of PowerShell's initial command: it reads the script from standard input, runs it.

    Where the language is restricted it says so in the language alone, and ends. The script comes as
    the lines that it is, not encoded: antimalware distrusts what decodes text and runs it. One
    reader gets the script and everything behind it: a second one would lose what the first has
    buffered. `lease` in seconds.
    """
    return (
        "$mode = [string] $ExecutionContext.SessionState.LanguageMode; "
        "if ($mode -ne 'FullLanguage') "
        "{ 'imagetool ' + [string] $PSVersionTable.PSVersion + ' ' + $mode; return }; "
        "$reader = [IO.StreamReader]::new([Console]::OpenStandardInput()); "
        "$text = [Text.StringBuilder]::new(); "
        f"while (($line = $reader.ReadLine()) -ne '{_END_MARK}') {{ "
        "if ($null -eq $line) { return }; [void] $text.AppendLine($line) }; "
        f"& ([scriptblock]::Create($text.ToString())) $reader {lease}"
    )


def read_script() -> bytes:
    """The session's script, as it lies in the package."""
    return files("imagetool.host").joinpath("session.ps1").read_bytes()


def script_lines() -> bytes:
    """The script as `bootstrap_command` reads it."""
    return read_script().rstrip() + f"\n{_END_MARK}\n".encode("ascii")


_LANGUAGE_MODE_LINE = re.compile(rb"imagetool (\S+) (\w+)\s*")
_ANTIMALWARE_MESSAGES = ("ScriptContainedMaliciousContent", "malicious content")


def startup_error(line: bytes, host: str) -> HostFailed | None:
    """Why the script did not start, where PowerShell's first word says so."""
    restricted = _LANGUAGE_MODE_LINE.fullmatch(line)
    if restricted is None:
        return None
    version, mode = (part.decode("ascii", "replace") for part in restricted.groups())
    return HostFailed(
        f"{host}: PowerShell {version} runs in {mode} there, which refuses the session's script",
        hint="Application control restricts it: install the script where it is allowed, signed if "
        'need be, and name it in the configuration (script = "C:\\…\\session.ps1").',
    )


def exit_error(host: str, code: int | None, stderr_text: str) -> HostFailed:
    """Why PowerShell ended, from its exit code and what it wrote to standard error."""
    if any(message in stderr_text for message in _ANTIMALWARE_MESSAGES):
        return HostFailed(
            f"{host}: antimalware there refused the session's script",
            hint="Allow imagetool's session.ps1 in the antimalware's settings, or install it and "
            'name it in the configuration (script = "C:\\…\\session.ps1").',
        )
    lines = [line.strip() for line in stderr_text.splitlines()]
    # Behind an error's message PowerShell tells where in which text it was.
    first = next((line for line in lines if line and not line.startswith(("At line:", "+"))), "")
    return HostFailed(
        f"{host}: PowerShell ended there (exit code {'unknown' if code is None else code}): "
        f"{first[:300] or 'it said nothing'}",
        hint="Start it by hand to see why; its lease may be over, or somebody ended it.",
    )
