"""imagetool: inspect guest images, verify their integration components, and service copies.

    with imagetool.open_image("template.vhdx") as image:
        print(image.windows().product)
    print(imagetool.verify("template.vhdx", at_least="6.3.9600.19456").verdict.outcome)

Every failure is an `imagetool.errors.ImagetoolError` with a sentence, a hint and an exit code.
Submodules are imported on first use.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from imagetool.guest.image import Image
    from imagetool.guest.inspection import Inspection
    from imagetool.host.session import Session
    from imagetool.package.media import Media
    from imagetool.registry.values import ValueData
    from imagetool.servicing.inject import Injection
    from imagetool.verdict.verify import Verification

__version__ = "0.1.0"

__all__ = [
    "inject",
    "inspect",
    "open_image",
    "open_package",
    "read_registry_value",
    "verify",
]


def open_image(
    path: str | Path, parents: Sequence[str | Path] = (), *, session: Session | None = None
) -> Image:
    """Open a guest image; a context manager. Raises Unreadable.

    Parents of a differencing disk may lie in its own directory and in `parents`. With a `session`
    (imagetool.host) these are paths on its host, and the image is read there, in place: the session
    stays open, and must outlive the image. Raises HostFailed where the host does not answer.
    """
    from imagetool.guest.image import open_image

    if session is None:
        return open_image(path, parents)
    from imagetool.host.reading import HostFiles

    return open_image(path, parents, HostFiles(session))


def open_package(path: str | Path) -> Media:
    """Open a vmguest.iso, a CAB, or a folder with update.mum; a context manager."""
    from imagetool.package.media import open_package

    return open_package(path)


def inspect(
    path: str | Path,
    *,
    volume: int | None = None,
    parents: Sequence[str | Path] = (),
    session: Session | None = None,
) -> Inspection:
    """Inspect an image: its system, its integration components, and warnings.

    Without an operating system the `note` of the result says what was found instead. Raises
    SeveralInstallations and Corrupt.
    """
    from imagetool.guest.inspection import inspect_image

    with open_image(path, parents, session=session) as image:
        return inspect_image(image, volume)


def verify(
    path: str | Path,
    *,
    at_least: str | None = None,
    package: str | Path | None = None,
    require: str | None = None,
    volume: int | None = None,
    parents: Sequence[str | Path] = (),
    session: Session | None = None,
) -> Verification:
    """Judge an image's integration components: the verdict, with all the evidence.

    `at_least` is a version such as "6.3.9600.19456"; `require` is "installed" or "confirmed".
    Raises WrongUsage for other values, DoesNotApply where no package fits.
    """
    from imagetool.errors import WrongUsage
    from imagetool.package.identity import Version
    from imagetool.verdict.verify import verify

    version = None if at_least is None else Version.parse(at_least)
    if at_least is not None and version is None:
        raise WrongUsage(f"{at_least!r} is no version", hint="Write it as 6.3.9600.19456.")
    if require not in (None, "installed", "confirmed"):
        raise WrongUsage(f"{require!r} is neither installed nor confirmed")
    with open_image(path, parents, session=session) as image:
        if package is None:
            return verify(image, at_least=version, require=require, volume=volume)
        with open_package(package) as media:
            return verify(image, at_least=version, media=[media], require=require, volume=volume)


def read_registry_value(
    path: str | Path,
    key: str,
    value: str = "",
    *,
    volume: int | None = None,
    parents: Sequence[str | Path] = (),
    session: Session | None = None,
) -> ValueData:
    """Read the data of a registry value in an image: a str, int, list of str, or bytes, by type.

    `key` is a full path: `HKLM\\SOFTWARE\\Microsoft\\…`; an empty `value` names the default value.
    Raises NotFound where the key or value is not there.
    """
    from imagetool.guest.registry_keys import find_value

    with open_image(path, parents, session=session) as image:
        return find_value(image, key, value, volume).data


def inject(
    image: str | Path,
    package: str | Path,
    open_session: Callable[[], Session],
    output: str | Path,
) -> Injection:
    """Service a copy of an image through a host; see imagetool.servicing.inject."""
    from imagetool.servicing.inject import inject

    return inject(image, package, open_session, output)
