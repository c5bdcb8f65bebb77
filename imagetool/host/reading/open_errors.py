"""Errors for files on a host that cannot be opened, worded as for local files."""

from __future__ import annotations

from imagetool.errors import CannotOpen, HostFailed, NoFile
from imagetool.host.answers import CmdletFailed

# Low words of HRESULTs: ERROR_… codes on Windows; elsewhere .NET gives those or an errno.
_ABSENT, _DENIED, _IS_DIRECTORY, _IN_USE, _TOO_LONG = (
    "absent",
    "denied",
    "directory",
    "held",
    "long",
)
_WINDOWS_REASONS = {
    2: _ABSENT,
    3: _ABSENT,
    5: _DENIED,
    32: _IN_USE,
    33: _IN_USE,
    206: _TOO_LONG,
    267: _IS_DIRECTORY,
}
_UNIX_REASONS = {2: _ABSENT, 3: _ABSENT, 5: _DENIED, 11: _IN_USE, 13: _DENIED, 20: _ABSENT,
              21: _IS_DIRECTORY, 32: _IN_USE, 36: _TOO_LONG, 206: _TOO_LONG}  # fmt: skip
_COR_E_INVALIDOPERATION = 0x80131509
_SCRIPT_DIRECTORY_MESSAGE = "is a directory."

BUSY_WARNING = (
    "in use on the host: another process has it open for writing; what is read may be a mixture "
    "of old and new"
)


def open_error(name: str, path: str, error: CmdletFailed, windows: bool) -> HostFailed | CannotOpen:
    """Return the error to raise for the file displayed as `name`; HostFailed where the request
    itself failed."""
    code = error.hresult
    message = next((line.strip() for line in error.host_message.splitlines() if line.strip()), "")
    message = message.partition(" : '")[0]  # .NET repeats the path
    known = _WINDOWS_REASONS if windows else _UNIX_REASONS
    reason = known.get(code & 0xFFFF) if code >> 16 in (0, 0x8007) else None
    if reason == _IS_DIRECTORY or message.endswith(_SCRIPT_DIRECTORY_MESSAGE):
        return NoFile(f"{name}: this is a directory", hint="Name a file in it.")
    if reason == _ABSENT:
        return NoFile(
            f"{name}: there is no such file", hint="Check the path; quote names with spaces."
        )
    if reason == _TOO_LONG:
        return CannotOpen(
            f"{name}: the name is too long for this system", hint="Name it by a shorter path."
        )
    if reason == _IN_USE:
        return CannotOpen(
            f"{name}: another process on the host holds the file, a running virtual machine most "
            "likely",
            hint="Shut the virtual machine down, or read a copy.",
        )
    if reason == _DENIED:
        hint = "The session's user must be one who may read it there."
        if path.replace("/", "\\").startswith("\\\\"):
            hint = (
                "A session cannot pass its user on to a third machine: let it (delegation, "
                "CredSSP), or name a path on the host itself."
            )
        return CannotOpen(f"{name}: permission to read it is denied", hint=hint)
    if code == _COR_E_INVALIDOPERATION:
        return error
    return CannotOpen(f"{name}: cannot be opened on the host: {message or f'0x{code:08X}'}")
