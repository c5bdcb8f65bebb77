"""Why a file on a host could not be opened, in the words of a file here."""

from __future__ import annotations

from imagetool.errors import CannotOpen, HostFailed, NoFile
from imagetool.host.session import CmdletFailed

_NOT_FOUND = (0x80070002, 0x80070003)
_DENIED = (0x80070005, 0x8007000D)  # the second is EACCES
_DIRECTORY = (0x80070015, 0x8007010B)  # EISDIR, ERROR_DIRECTORY
_SHARING = (0x80070020, 0x80070021, 0x8007000B)  # the last is EWOULDBLOCK
_NO_SUCH_OPERATION = 0x80131509
_OURS = "is a directory."

BUSY = (
    "in use on the host: another process has it open for writing; what is read may be a mixture "
    "of old and new"
)


def explain(name: str, path: str, error: CmdletFailed) -> HostFailed | CannotOpen:
    """The error for the file that people call `name`; HostFailed where it is not the file's."""
    code = error.hresult
    said = next((line.strip() for line in error.host_message.splitlines() if line.strip()), "")
    if code in _DIRECTORY or said.endswith(_OURS):
        return NoFile(f"{name}: this is a directory", hint="Name a file in it.")
    if code in _NOT_FOUND:
        return NoFile(
            f"{name}: there is no such file", hint="Check the path; quote names with spaces."
        )
    if code in _SHARING:
        return CannotOpen(
            f"{name}: another process on the host holds the file: a running virtual machine, most "
            "likely",
            hint="Shut the virtual machine down, or read a checkpoint's parent, or a copy.",
        )
    if code in _DENIED:
        hint = "The session's user must be one who may read it there."
        if path.replace("/", "\\").startswith("\\\\"):
            hint = (
                "A session cannot pass its user on to a third machine: allow it (CredSSP, "
                "delegation), or name a path on the host itself."
            )
        return CannotOpen(f"{name}: permission to read it is denied", hint=hint)
    if code == _NO_SUCH_OPERATION:
        return error
    return CannotOpen(f"{name}: cannot be opened on the host: {said or f'0x{code:08X}'}")
