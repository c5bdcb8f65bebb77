"""The transport of a session's lines, and the start of its script in PowerShell."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Protocol

from imagetool.errors import HostFailed

MAX_LINE_BYTES = 16 << 20
"""A longer line of the script is refused: the largest that is asked for has some 6 MB."""

_TOO_OLD = "$PSVersionTable.PSVersion.Major * 100 + $PSVersionTable.PSVersion.Minor -lt 501"
_SAY_SO = (
    "{ 'imagetool ' + [string] $PSVersionTable.PSVersion + ' ' "
    "+ [string] $ExecutionContext.SessionState.LanguageMode; return }"
)
VERSION_CHECK = f"if ({_TOO_OLD}) {_SAY_SO}"
"""The first statement of a command that needs PowerShell 5.1: an older one says so, and ends.

PowerShell 2.0 can run it, and no language mode refuses it.
"""
STARTUP_CHECK = (
    f"if ({_TOO_OLD} -or $ExecutionContext.SessionState.LanguageMode -ne 'FullLanguage') {_SAY_SO}"
)
"""The first statement of a command that needs .NET as well, which other language modes refuse."""

_OLDEST_POWERSHELL = (5, 1)
_END_MARK = "#end of the script"


class ConnectionBroke(HostFailed):
    """The connection to the host broke.

    The last request may or may not have arrived, and answers may be lost. The script may still
    run, so the request can be sent again after Transport.reconnect.
    """


class Transport(Protocol):
    """A connection to the script's standard streams: a local process, the emulated host, WinRM."""

    def send(self, data: bytes) -> None:
        """Send whole lines, each with its line feed.

        Raises HostFailed where the script has ended, ConnectionBroke.
        """

    def receive_line(self, timeout: float) -> bytes | None:
        """Return the next line, or None where none came in `timeout` seconds.

        Raises HostFailed where the script has ended or a line has no end, ConnectionBroke.
        """

    def reconnect(self) -> None:
        """Connect again after ConnectionBroke. Raises HostFailed, ConnectionBroke."""

    def close(self) -> None:
        """Close the script's input, which ends the script; never raises."""


def endless_line(host: str) -> HostFailed:
    """Return the error for a line of more than MAX_LINE_BYTES."""
    return HostFailed(
        f"{host}: the host answers with a line of over {MAX_LINE_BYTES >> 20} MB",
        hint="Another program than the session's script may write there.",
    )


def bootstrap_command(lease: int) -> str:
    """Return PowerShell's initial command, which reads the script from standard input and runs it.

    The script is sent as plain lines: antimalware distrusts commands that decode text and run it.
    The same StreamReader reads the script and the requests behind it, for it has buffered some of
    them. `lease` in seconds.
    """
    return (
        f"{STARTUP_CHECK}; "
        "$reader = [IO.StreamReader]::new([Console]::OpenStandardInput()); "
        "$text = [Text.StringBuilder]::new(); "
        f"while (($line = $reader.ReadLine()) -ne '{_END_MARK}') {{ "
        "if ($null -eq $line) { return }; [void] $text.AppendLine($line) }; "
        f"& ([scriptblock]::Create($text.ToString())) $reader {lease}"
    )


def read_script() -> bytes:
    """Return the bytes of session.ps1 as installed in this package."""
    return files("imagetool.host").joinpath("session.ps1").read_bytes()


def script_lines() -> bytes:
    """Return the script as `bootstrap_command` reads it: its lines, then an end mark."""
    return read_script().rstrip() + f"\n{_END_MARK}\n".encode("ascii")


_STARTUP_LINE = re.compile(rb"imagetool (\S+) (\w+)\s*")
_ANTIMALWARE_MESSAGES = ("ScriptContainedMaliciousContent", "malicious content")


def startup_error(line: bytes, host: str) -> HostFailed | None:
    """Return the error that the first line of output stands for, if it is STARTUP_CHECK's."""
    found = _STARTUP_LINE.fullmatch(line)
    if found is None:
        return None
    version, mode = (part.decode("ascii", "replace") for part in found.groups())
    if tuple(int(part) for part in re.findall("[0-9]+", version)[:2]) < _OLDEST_POWERSHELL:
        return HostFailed(
            f"{host}: PowerShell {version} there is too old: the session's script needs 5.1",
            hint="Install WMF 5.1 (Windows Management Framework) on the host, or run imagetool "
            "where PowerShell is newer.",
        )
    return HostFailed(
        f"{host}: PowerShell {version} runs in {mode} there, which refuses the session's script",
        hint="Application control restricts it: install the script where it is allowed, signed if "
        'need be, and name it in the configuration (script = "C:\\…\\session.ps1").',
    )


def exit_error(host: str, code: int | None, stderr_text: str) -> HostFailed:
    """Return the error for PowerShell's unexpected exit, from exit code and standard error."""
    if any(message in stderr_text for message in _ANTIMALWARE_MESSAGES):
        return HostFailed(
            f"{host}: antimalware there refused the session's script",
            hint="Allow imagetool's session.ps1 in the antimalware's settings, or install it and "
            'name it in the configuration (script = "C:\\…\\session.ps1").',
        )
    lines = [line.strip() for line in stderr_text.splitlines()]
    # The lines behind the message give the position in the script: "At line:…", "+ …".
    first = next((line for line in lines if line and not line.startswith(("At line:", "+"))), "")
    return HostFailed(
        f"{host}: PowerShell ended there (exit code {'unknown' if code is None else code}): "
        f"{first[:300] or 'it said nothing'}",
        hint="Start it by hand to see why; its lease may be over, or somebody ended it.",
    )
