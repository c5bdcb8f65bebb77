"""The identity of an image, compared between this machine and a host before it is changed.

One path may name different files on the two machines. The size must agree, and the identifiers of
the format: FileWriteGuid and DataWriteGuid of a VHDX, which every writer changes; unique id, time
stamp and checksum of a VHD. A raw file has only its size.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from imagetool.contracts import Host
from imagetool.errors import HostFailed, Unreadable
from imagetool.guest.image import Image, open_image
from imagetool.host.reading import HostFiles

_HINT = "Check how paths here and paths on the host correspond, and whether a copy is stale."


class ImageIdentity(NamedTuple):
    """Size, format and identifiers, equal wherever the same image is read."""

    size: int
    """The size of the file in bytes."""
    format: str
    identifiers: tuple[tuple[str, str], ...]


def identify(image: Image) -> ImageIdentity:
    """Return the identity of an open image."""
    return ImageIdentity(
        image.file_size, image.disk.format, tuple(sorted(image.disk.identifiers.items()))
    )


def check_same_image(session: Host, local_path: Path, host_path: str) -> None:
    """Check that `host_path` on the host is the image at `local_path`. Raises HostFailed."""
    with open_image(local_path) as image:
        own = identify(image)
    try:
        with open_image(host_path, files=HostFiles(session)) as image:
            other = identify(image)
    except Unreadable as error:
        raise HostFailed(
            f"the host cannot read the image that is to be serviced: {error.message}",
            hint=error.hint or _HINT,
        ) from error
    if own != other:
        raise HostFailed(
            f"{host_path}: on the host this is another image than here: {_difference(own, other)}",
            hint=_HINT,
        )


def _difference(own: ImageIdentity, other: ImageIdentity) -> str:
    """The first difference, in words."""
    pairs = [("size", str(own.size), str(other.size)), ("format", own.format, other.format)]
    names = dict.fromkeys(name for name, _ in own.identifiers + other.identifiers)
    ours, theirs = dict(own.identifiers), dict(other.identifiers)
    pairs += [(name, ours.get(name, "none"), theirs.get(name, "none")) for name in names]
    return next(f"its {name} is {b}, not {a}" for name, a, b in pairs if a != b)
