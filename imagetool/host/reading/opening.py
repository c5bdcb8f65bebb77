"""Why a file on a host could not be opened, in the words of a file here."""

from __future__ import annotations

from imagetool.errors import CannotOpen, HostFailed, NoFile
from imagetool.host.answers import CmdletFailed

# ERROR_…, in an HRESULT, of Windows; what .NET says elsewhere is that, or an errno.
_ABSENT, _DENIED, _IS_DIRECTORY, _HELD = "absent", "denied", "directory", "held"
_WINDOWS = {2: _ABSENT, 3: _ABSENT, 5: _DENIED, 32: _HELD, 33: _HELD, 267: _IS_DIRECTORY}
_ELSEWHERE = {2: _ABSENT, 3: _ABSENT, 5: _DENIED, 11: _HELD, 13: _DENIED, 20: _ABSENT,
              21: _IS_DIRECTORY, 32: _HELD, 36: _ABSENT}  # fmt: skip
_NO_SUCH_OPERATION = 0x80131509
_OURS = "is a directory."

BUSY = (
    "in use on the host: another process has it open for writing; what is read may be a mixture "
    "of old and new"
)


def explain(name: str, path: str, error: CmdletFailed, windows: bool) -> HostFailed | CannotOpen:
    """The error for the file that people call `name`; HostFailed where it is not the file's."""
    code = error.hresult
    said = next((line.strip() for line in error.host_message.splitlines() if line.strip()), "")
    said = said.partition(" : '")[0]  # .NET says the path once more
    known = _WINDOWS if windows else _ELSEWHERE
    reason = known.get(code & 0xFFFF) if code >> 16 in (0, 0x8007) else None
    if reason == _IS_DIRECTORY or said.endswith(_OURS):
        return NoFile(f"{name}: this is a directory", hint="Name a file in it.")
    if reason == _ABSENT:
        return NoFile(
            f"{name}: there is no such file", hint="Check the path; quote names with spaces."
        )
    if reason == _HELD:
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
    if code == _NO_SUCH_OPERATION:
        return error
    return CannotOpen(f"{name}: cannot be opened on the host: {said or f'0x{code:08X}'}")
