"""imagetool: read guest images for Hyper-V, judge their integration components, and service them.

    with imagetool.open_image("template.vhdx") as image:
        print(image.windows().product)
    print(imagetool.verify("template.vhdx", at_least="6.3.9600.19456").verdict.outcome.value)

Every failure is an `imagetool.errors.ImagetoolError` with a sentence, a hint and an exit code.
Modules are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from imagetool import errors as errors
from imagetool.contracts import Reportable
from imagetool.version import __version__ as __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagetool.arguments import ImagePath, StrPath
    from imagetool.connection import Connection as Connection
    from imagetool.guest.guest import Guest as Guest
    from imagetool.guest.image import BlockDevice as BlockDevice
    from imagetool.guest.image import Image as Image
    from imagetool.guest.inspection import Inspection as Inspection
    from imagetool.guest.linux.guest import LinuxGuest as LinuxGuest
    from imagetool.guest.windows.components import IntegrationComponents as IntegrationComponents
    from imagetool.guest.windows.facts import WindowsFacts as WindowsFacts
    from imagetool.guest.windows.guest import WindowsGuest as WindowsGuest
    from imagetool.host.session import Session as Session
    from imagetool.location import Location as Location
    from imagetool.package.identity import Version as Version
    from imagetool.package.media import Media as Media
    from imagetool.package.media import Package as Package
    from imagetool.registry.values import ValueData as ValueData
    from imagetool.servicing.inject import Injection as Injection
    from imagetool.servicing.plan import Plan as Plan
    from imagetool.servicing.targets import Request
    from imagetool.verdict.verify import Verification as Verification
    from imagetool.verdict.windows import Outcome as Outcome
    from imagetool.verdict.windows import Verdict as Verdict

_LOCATIONS = {
    "BlockDevice": "guest.image",
    "Connection": "connection",
    "Guest": "guest.guest",
    "Image": "guest.image",
    "Injection": "servicing.inject",
    "Inspection": "guest.inspection",
    "IntegrationComponents": "guest.windows.components",
    "LinuxGuest": "guest.linux.guest",
    "Location": "location",
    "Media": "package.media",
    "Outcome": "verdict.windows",
    "Package": "package.media",
    "Plan": "servicing.plan",
    "Session": "host.session",
    "ValueData": "registry.values",
    "Verdict": "verdict.windows",
    "Verification": "verdict.verify",
    "Version": "package.identity",
    "WindowsFacts": "guest.windows.facts",
    "WindowsGuest": "guest.windows.guest",
}
"""The modules of the result types, imported when a type is named."""

__all__ = [
    "BlockDevice",
    "Connection",
    "Guest",
    "Image",
    "Injection",
    "Inspection",
    "IntegrationComponents",
    "LinuxGuest",
    "Location",
    "Media",
    "Outcome",
    "Package",
    "Plan",
    "Session",
    "ValueData",
    "Verdict",
    "Verification",
    "Version",
    "WindowsFacts",
    "WindowsGuest",
    "connect",
    "errors",
    "find",
    "inject",
    "inspect",
    "open_image",
    "open_package",
    "plan",
    "read_registry_value",
    "verify",
]


if not TYPE_CHECKING:  # a type checker would take it that every name is there

    def __getattr__(name: str) -> object:
        if name in _LOCATIONS:
            return getattr(import_module(f"imagetool.{_LOCATIONS[name]}"), name)
        raise AttributeError(f"module 'imagetool' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _write_json(result: Reportable) -> str:
    from imagetool.report import render

    return render(result, "json")


Reportable.json_writer = _write_json


def connect(host: str) -> Connection:
    """Open a session with a host; a context manager. Raises HostFailed, WrongUsage.

    `host` is `local`, `lab` (the emulated host), a name of the configuration file, a DNS name or a
    URL, as on the command line (docs/hosts.md). The connection finds the images that lie there:

        with imagetool.connect("hv01") as host:
            for image in host.find(r"D:\\images\\*.vhdx"):
                print(image, imagetool.verify(image).verdict.outcome.value)
    """
    from imagetool.arguments import check_text
    from imagetool.connection import Connection, named_host

    return Connection(named_host(check_text("host", host)))


def find(*locations: StrPath, recursive: bool = False) -> tuple[str, ...]:
    """Find the images here that paths, patterns and directories stand for.

    `**` is any number of directories; a directory stands for the images in it, with `recursive` for
    those below it too. `Connection.find` looks on a host. Raises CannotOpen where nothing fits, or
    a directory cannot be listed.
    """
    from imagetool.arguments import check_flag, check_paths
    from imagetool.errors import WrongUsage
    from imagetool.location import Location

    if not locations:
        raise WrongUsage("no location is given", hint="Name a path, a pattern or a directory.")
    recursive = check_flag("recursive", recursive)
    found: dict[str, None] = {}
    for path in check_paths("locations", locations):
        for location in Location(path).find(recursive=recursive):
            if location.failure is not None:
                raise location.failure
            found[location.path] = None
    return tuple(found)


def open_image(path: ImagePath, parents: Sequence[StrPath] = ()) -> Image:
    """Open a guest image; a context manager. Raises Unreadable.

    `path` is one here, or a Location that a Connection gave: then the image is read on the host, in
    place, as long as the connection is open. Parents of a differencing disk may lie in its own
    directory and in `parents`, directories of the same machine. Raises HostFailed where the host
    does not answer.
    """
    from imagetool.arguments import check_location, check_paths

    return check_location("path", path).open(check_paths("parents", parents))


def open_package(path: StrPath) -> Media:
    """Open a vmguest.iso, a CAB, or a folder with update.mum; a context manager."""
    from imagetool.arguments import check_path
    from imagetool.package.media import open_package

    return open_package(check_path("path", path))


def inspect(
    path: ImagePath,
    *,
    volume: int | None = None,
    parents: Sequence[StrPath] = (),
) -> Inspection:
    """Inspect an image: its system, its integration components, and warnings.

    Without an operating system its `note` says what was found. Raises SeveralInstallations and
    Corrupt.
    """
    from imagetool.arguments import check_volume
    from imagetool.guest.inspection import inspect_image

    number = check_volume(volume)
    with open_image(path, parents) as image:
        return inspect_image(image, number)


def verify(
    path: ImagePath,
    *,
    at_least: str | Version | None = None,
    package: StrPath | Sequence[StrPath] = (),
    require: str | None = None,
    strict: bool = False,
    accept_rehearsal: bool = False,
    accept_unclean: bool = False,
    trust: Sequence[StrPath] = (),
    volume: int | None = None,
    parents: Sequence[StrPath] = (),
) -> Verification:
    """Judge an image's integration components, with all the evidence.

    `at_least` is a version such as "6.3.9600.19456"; `package` is one or several ISOs, CABs or
    folders; `require` is "installed" or "confirmed". `holds` is False where a warning stands and
    `strict` is set, and for evidence of the emulated host unless `accept_rehearsal` is; a Linux
    volume whose journal was not replayed raises Unclean unless `accept_unclean` is. `trust` names
    files with root certificates for packages. Raises WrongUsage for other values, DoesNotApply
    where no package fits.
    """
    from contextlib import ExitStack

    from imagetool.arguments import (
        check_choice,
        check_flag,
        check_one_or_several,
        check_paths,
        check_version,
        check_volume,
    )
    from imagetool.package.trust import read_trusted_roots
    from imagetool.verdict.verify import Criteria, verify

    wanted = check_version("at_least", at_least)
    packages = check_one_or_several("package", () if package is None else package)
    required = check_choice("require", require, ("installed", "confirmed"))
    number = check_volume(volume)
    roots = read_trusted_roots(check_paths("trust", trust))
    with ExitStack() as stack:
        image = stack.enter_context(open_image(path, parents))
        media = [stack.enter_context(open_package(item)) for item in packages]
        criteria = Criteria(
            at_least=wanted,
            media=media,
            require=required,
            strict=check_flag("strict", strict),
            accept_rehearsal=check_flag("accept_rehearsal", accept_rehearsal),
            accept_unclean=check_flag("accept_unclean", accept_unclean),
            trusted=roots,
        )
        return verify(image, criteria, volume=number)


def read_registry_value(
    path: ImagePath,
    key: str,
    value: str = "",
    *,
    volume: int | None = None,
    parents: Sequence[StrPath] = (),
) -> ValueData:
    """Read the data of a registry value in an image: str, int, list of str, or bytes, by its type.

    `key` is written as people write it: `HKLM\\SOFTWARE\\Microsoft\\…`; an empty `value` is the
    default one. Raises NotFound where the key or value is not there.
    """
    from imagetool.arguments import check_text, check_volume
    from imagetool.guest.registry_keys import find_value

    key, name = check_text("key", key), check_text("value", value)
    number = check_volume(volume)
    with open_image(path, parents) as image:
        return find_value(image, key, name, number).data


def plan(
    image: ImagePath,
    package: StrPath | Sequence[StrPath],
    output: ImagePath | None = None,
    *,
    host: str | Connection | None = None,
    volume: int | None = None,
    digest: bool = False,
    allow_unsigned: bool = False,
    trust: Sequence[StrPath] = (),
) -> Plan:
    """Say what `inject` would do, and touch nothing; `to_json` of the result is a plan to keep.

    Without `output` it is NAME-serviced beside the image. Raises as inject does before its work.
    """
    from imagetool.servicing.targets import prepare_request

    request = _check_request(image, package, output, host, volume, digest, allow_unsigned, trust)
    return prepare_request(request)[0].plan


def inject(
    image: ImagePath,
    package: StrPath | Sequence[StrPath],
    output: ImagePath,
    *,
    host: str | Connection | None = None,
    volume: int | None = None,
    digest: bool = False,
    allow_unsigned: bool = False,
    trust: Sequence[StrPath] = (),
) -> Injection:
    """Put a package into a copy of an image through a host, prove it, and name it `output`.

    `image` and `output` are paths here, or Locations of one Connection; paths here are translated
    to the host's by its configuration. `host` is a Connection or a name, by default that of the
    locations, else the user's own default. With `digest` the host hashes both disks in the end. A
    package that is not genuine raises DoesNotApply; `allow_unsigned` lets one pass that is unsigned
    or signed by somebody unknown, and `trust` names files with further root certificates. Raises
    also CannotWrite where the output cannot be written, HostFailed, ServicingFailed where the host
    refuses or the result cannot be proved, LeftBehind where something could not be undone.
    """
    from imagetool.arguments import check_location
    from imagetool.connection import servicing_opener
    from imagetool.servicing.inject import inject
    from imagetool.servicing.targets import prepare_request

    new = check_location("output", output)
    request = _check_request(image, package, new, host, volume, digest, allow_unsigned, trust)
    prepared, name = prepare_request(request)
    return inject(prepared, servicing_opener(request.host), output_name=name)


def _check_request(
    image: object,
    package: object,
    output: object,
    host: object,
    volume: object,
    digest: object,
    allow_unsigned: object,
    trust: object,
) -> Request:
    """Return what `plan` and `inject` are asked for. Raises WrongUsage, Unsupported."""
    from imagetool.arguments import (
        check_flag,
        check_location,
        check_one_or_several,
        check_paths,
        check_text,
        check_volume,
    )
    from imagetool.connection import Connection, named_host, servicing_host
    from imagetool.errors import Unsupported, WrongUsage
    from imagetool.package.trust import read_trusted_roots
    from imagetool.servicing.targets import Request, common_host

    source = check_location("image", image)
    packages = check_one_or_several("package", package)
    if not packages:
        raise WrongUsage("package is empty", hint="Name an ISO or a CAB.")
    if len(packages) > 1:
        raise Unsupported("several packages at once come later", hint="Name one package.")
    target = None if output is None else check_location("output", output)
    named = [item for item in (source, target) if item is not None]
    if isinstance(host, Connection):
        common_host(named, host.name)
        chosen = host.host
    else:
        name = common_host(named, None if host is None else check_text("host", host))
        by_location = name is not None and host is None
        chosen = named_host(name) if by_location else servicing_host(name)
    return Request(
        source,
        packages[0],
        target,
        chosen,
        check_volume(volume),
        check_flag("digest", digest),
        check_flag("allow_unsigned", allow_unsigned),
        read_trusted_roots(check_paths("trust", trust)),
    )
