"""Preconditions on the host, checked before the work: each has a sentence, a hint, an exit code."""

from __future__ import annotations

import ntpath
import posixpath
import re
import sys
from contextlib import suppress

from imagetool.contracts import Host
from imagetool.disk.safe_names import safe_name
from imagetool.errors import CannotWrite, HostFailed
from imagetool.host.answers import CmdletFailed
from imagetool.host.files import FileOperations
from imagetool.host.patience import is_in_use
from imagetool.servicing.plan import Plan
from imagetool.servicing.steps.mount import unmountable
from imagetool.servicing.steps.mounting import is_attached, mounting_of

_MODULES = {
    "Storage": "the module that every Windows Server has",
    "Dism": "the module that every Windows Server has",
}
_UNMOUNTABLE_HINT = (
    "Name an output in another directory, or take the attribute away (compact /u, cipher /d)."
)
_PACKAGE_GROWTH = 4
"""A copy grows by so many times the package: its files are unpacked, and stored twice."""
_MAX_NAME_BYTES = 255


def check_host(host: Host, plan: Plan) -> None:
    """Check that the host has the cmdlets, and that nobody has this image open there.

    Raises HostFailed.
    """
    for name, origin in _MODULES.items():
        if name not in host.modules:
            if host.emulated and sys.platform == "win32":
                raise HostFailed(
                    "the emulated host is not for Windows: it writes no images there",
                    hint="Rehearse on Linux, or name a Hyper-V host.",
                )
            if host.emulated:
                raise HostFailed(
                    "the emulated host lacks the libraries with which it writes images",
                    hint="Install libntfs-3g and libhivex (Debian: ntfs-3g, libhivex-bin).",
                )
            raise HostFailed(
                f"the host has no module {name}, whose cmdlets servicing uses",
                hint=f"Install it there: {origin}.",
            )
    image = plan.image
    try:
        attached = is_attached(host, image.path)
    except CmdletFailed as error:
        if not is_in_use(error):
            raise
        raise HostFailed(
            f"{image.name}: {_user_of(host, image.path)} has this image open",
            hint="Shut it down, or make a copy while nobody writes to the image.",
        ) from None
    if attached:
        raise HostFailed(
            f"{image.name}: the host has this image mounted",
            hint=f"Dismount it there ({mounting_of(host).dismount}), then try again.",
        )


def _user_of(host: Host, path: str) -> str:
    """Name who has an image open, as far as the host tells."""
    with suppress(CmdletFailed):
        drives = host.invoke("Get-VMHardDiskDrive", VMName="*", properties=("VMName", "Path"))
        for drive in drives:
            if _same_path(host, str(drive.get("Path")), path):
                return f"the virtual machine {drive.get('VMName')}"
    return "somebody on the host, or on another one,"


def _same_path(host: Host, one: str, other: str) -> bool:
    if not host.on_windows:
        return one == other
    return ntpath.normcase(ntpath.normpath(one)) == ntpath.normcase(ntpath.normpath(other))


def older_dism(host: Host, plan: Plan) -> str:
    """Return a warning where the host's DISM is older than the guest's Windows; else nothing.

    That it cannot service the guest is not certain: the guest's own servicing stack does the work.
    """
    dism = _version(str(host.operate("facts").get("dism") or ""))
    guest = _version(plan.image.version)
    if not dism or not guest or dism >= guest:
        return ""
    return (
        f"the host's DISM is of Windows {'.'.join(map(str, dism))}, and the guest of "
        f"{'.'.join(map(str, guest))}: it may refuse the guest"
    )


def _version(text: str) -> tuple[int, ...]:
    """Return the first three numbers of a version, which name a release of Windows."""
    found = re.match(r"\s*(\d+)\.(\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else ()


def check_output(host: Host, plan: Plan) -> None:
    """Check that the output can be written: name, directory, permission and room.

    Raises CannotWrite, HostFailed.
    """
    files, output = FileOperations(host), plan.output
    folder, name = (ntpath if host.on_windows else posixpath).split(output)
    if not name:
        raise CannotWrite(
            f"{output}: this is the path of a directory", hint="Name a new file in it."
        )
    if host.on_windows:
        safe_name(name, "Name the output otherwise.")
    elif len(name.encode("utf-8", "surrogateescape")) > _MAX_NAME_BYTES:
        raise CannotWrite(
            f"{output}: cannot be written: the name is too long", hint="Choose a shorter one."
        )
    try:
        if files.stat(output).exists:
            raise CannotWrite(
                f"{output}: there is a file of that name already", hint="Choose another output."
            )
        found = files.stat(folder)
        if not found.exists:
            raise CannotWrite(
                f"{folder}: there is no such directory", hint="Make it, or name another."
            )
        if not found.is_directory:
            raise CannotWrite(f"{folder}: this is a file, no directory", hint="Name a directory.")
        attributes = unmountable(found.attributes)
        if attributes:
            raise CannotWrite(
                f"{folder}: files in it become {attributes}, and Windows mounts no such image",
                hint=_UNMOUNTABLE_HINT,
            )
        _check_room(host, plan, folder)
        _check_permission(files, plan)
    except CmdletFailed as error:
        raise CannotWrite(
            f"{output}: cannot be written: {error.host_message or error.message}",
            hint="Choose another output, or have the host's user permitted to write there.",
        ) from None


def _check_room(host: Host, plan: Plan, folder: str) -> None:
    needed = plan.image.state.identity.size + _PACKAGE_GROWTH * plan.package.size
    volume = host.operate("volume", path=folder)
    free = volume.get("free")
    if volume.get("kind") != "Network" and isinstance(free, int) and free < needed:
        raise CannotWrite(
            f"{folder}: {free:,} bytes are free there, and the copy needs {needed:,} (the image, "
            "and what the package adds)",
            hint="Make room, or name an output on another disk.",
        )


def _check_permission(files: FileOperations, plan: Plan) -> None:
    """Write an empty file of the copy's name, and delete it. Raises CmdletFailed, CannotWrite."""
    copy = next(step.facts["target"] for step in plan.steps if step.name == "copy")
    if files.stat(copy).exists:
        raise CannotWrite(
            f"{copy}: there is a file of that name already",
            hint="It is of an earlier run of this plan: look at it, and delete it.",
        )
    files.own(copy)  # this process may be killed before the next but one
    files.create(copy)
    files.delete(copy)
