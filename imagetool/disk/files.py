"""Files of disk images: their names, what is read first, and where parents are looked for."""

from __future__ import annotations

from collections.abc import Sequence

from imagetool.contracts import Range

PARENTS_OPTION = "commands that only read an image look into the directories of --parents too"
"""For hints: not every command that meets a differencing disk has the option."""

IMAGE_SUFFIXES = (
    *(".vhdx", ".avhdx", ".vhd", ".avhd", ".raw", ".img"),
    *(".qcow2", ".vmdk", ".vdi"),  # they are not read, and not left out silently either
)
"""The suffixes by which an image is known in a directory, in lower case."""

_KIB, _MIB = 1 << 10, 1 << 20
_EXPECTED = ((0, 64 * _KIB), (_MIB, 64 * _KIB))
_EXPECTED_OF_VHDX = (
    (0, 320 * _KIB),
    (2 * _MIB, 80 * _KIB),
    (3 * _MIB, 80 * _KIB),
    (4 * _MIB, 32 * _KIB),
    (5 * _MIB, 64 * _KIB),
)


def is_pattern(text: str) -> bool:
    r"""True if a text has the characters of a pattern; the one in \\?\ of Windows is none."""
    return any(character in text.removeprefix("\\\\?\\") for character in "*?[")


def names_an_image(path: str) -> bool:
    """True for the path of one image by its suffix, whether it is there or not; no pattern."""
    return not is_pattern(path) and path.lower().endswith(IMAGE_SUFFIXES)


def expected_ranges(path: str) -> Sequence[Range]:
    """The ranges of a disk of that name that are likely read first, for prefetching.

    For a VHDX: its headers, metadata and block allocation table as Hyper-V and QEMU place them, and
    the start of the disk and of its first partition as Hyper-V places them; for any other file
    the latter two. A wrong guess costs a few kilobytes.
    """
    return _EXPECTED_OF_VHDX if path.lower().endswith((".vhdx", ".avhdx")) else _EXPECTED
