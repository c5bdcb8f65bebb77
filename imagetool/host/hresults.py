"""HRESULTs of DISM, of mounting and of Windows: what each says, and what to do.

On a localised host the code is all that can be read of a failure. Sources: winerror.h, CbsMsg.h and
DISM's own messages; what several causes share is said as a choice, for the code does not tell.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_CODE = re.compile(r"\b0x([0-9A-Fa-f]{8})\b")
_BOOT_FIRST = "Boot the guest once, then try again."
_GOOD_COPY = "Start again from a good copy of the image."
_ORIGIN = "Compare the package with its origin; `imagetool package check` does."
_DISM_LOG = "The host's DISM log says more (C:\\Windows\\Logs\\DISM\\dism.log)."


class Explanation(NamedTuple):
    """What a code says, as a part of a sentence, and what to do."""

    meaning: str
    remedy: str


EXPLANATIONS = {
    # Windows
    0x80004001: Explanation(
        "not implemented, as a DISM says that is too old for the image",
        "Try a newer host: that of an older one does not service every newer image.",
    ),
    0x80070005: Explanation(
        "access is denied",
        "The session needs an elevated administrator of the host; antivirus or an attack surface "
        "reduction rule refuses too.",
    ),
    0x8007000D: Explanation(
        "the data is invalid, of the package or of the image",
        "Compare both with their origins; `imagetool package check` looks at the package.",
    ),
    0x80070013: Explanation(
        "the disk is write-protected",
        "A policy of the host may deny writing to unencrypted disks (FDVDenyWriteAccess under "
        "Policies\\Microsoft\\FVE), or an encryption agent does.",
    ),
    0x80070020: Explanation(
        "another process holds the file",
        "A running virtual machine, a scanner or an indexer: end it or wait, then try again.",
    ),
    0x80070050: Explanation("the file exists already", "Move it away, or choose another name."),
    0x80070057: Explanation("a parameter is incorrect", _DISM_LOG),
    0x80070070: Explanation(
        "no room is left, on the host's disk, in the mounted volume or in DISM's scratch "
        "directory: the code does not say which",
        "Make room on the host's disk, and look how full the guest's volume is "
        "(`imagetool disk map`).",
    ),
    0x80070522: Explanation(
        "a privilege is not held that mounting needs",
        "Use an elevated administrator of the host, and an image on the host's own disk: SYSTEM "
        "and a session from afar cannot mount one from a share.",
    ),
    0x800706BE: Explanation(
        "the process that was asked ended (a remote procedure call failed)",
        f"Try again; {_DISM_LOG[0].lower()}{_DISM_LOG[1:]}",
    ),
    0x80073712: Explanation("the image's component store is damaged", _GOOD_COPY),
    # CBS
    0x800F0805: Explanation("this is no package of CBS, or it is damaged", _ORIGIN),
    0x800F0806: Explanation("servicing is pending in the image", _BOOT_FIRST),
    0x800F081B: Explanation(
        "the package is for another architecture",
        "`imagetool package show` says for which.",
    ),
    0x800F081E: Explanation(
        "the package does not apply to this image: it is for another system or architecture, or "
        "it or a newer one is there already",
        "`imagetool verify IMAGE --package PACKAGE` says what the image has.",
    ),
    0x800F081F: Explanation(
        "a file that servicing needs is missing, in the package or in the image's component store",
        f"{_ORIGIN} Else: {_GOOD_COPY[0].lower()}{_GOOD_COPY[1:]}",
    ),
    0x800F0823: Explanation(
        "the image's servicing stack, or the host's DISM, is too old for the package",
        "Put the newest servicing stack update into the image first, or use a newer host.",
    ),
    0x800F0828: Explanation("there is too little room in the image's volume", "Enlarge it first."),
    0x800F082E: Explanation(
        "the package cannot go into an image that is not running", "Install it in the guest."
    ),
    0x800F082F: Explanation(
        "an update is pending in the image that suffers no other beside it", _BOOT_FIRST
    ),
    0x800F0830: Explanation("the image cannot be serviced any more", _GOOD_COPY),
    0x800F0831: Explanation("the image's component store is damaged", _GOOD_COPY),
    0x800F0902: Explanation("servicing is busy", "Wait until the other work ends, then try again."),
    0x800F0922: Explanation("an installer of the package failed in the image", _DISM_LOG),
    # DISM's mounts, and virtual disks
    0xC1420117: Explanation(
        "the mounted directory could not be unmounted completely: files in it are open",
        "Close on the host what has them open (a shell, a scanner, Explorer), then dismount there.",
    ),
    0xC1510111: Explanation(
        "the image cannot be written: it is mounted read-only, or lies on such media",
        "Copy it to a disk that may be written.",
    ),
    0xC03A0014: Explanation(
        "no provider of virtual disks was found for the file",
        "Is Hyper-V whole on the host, and the file a VHDX or VHD by name and content? "
        "`imagetool inspect` shows what it is.",
    ),
    0xC03A001A: Explanation(
        "the file is sparse, compressed or encrypted on the host, and Windows mounts no such one",
        "There, fitting its attributes: fsutil sparse setflag FILE 0, compact /u FILE, or "
        "cipher /d FILE.",
    ),
}


def find_code(hresult: int, message: str) -> int:
    """Return the code that explains a failure: its HRESULT, or a known one in its message.

    Exceptions of virtual disks and DISM's often carry a general HRESULT, and theirs in the text.
    """
    if hresult in EXPLANATIONS:
        return hresult
    known = [code for text in _CODE.findall(message) if (code := int(text, 16)) in EXPLANATIONS]
    return known[-1] if known else hresult
