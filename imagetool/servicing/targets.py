"""The host that is to service an image, and the paths of image and output there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from imagetool.errors import HostFailed, WrongUsage
from imagetool.host.configuration.address import ConfiguredHost
from imagetool.host.configuration.path_mapping import is_windows_path, path_on_host
from imagetool.host.reading import HostFiles
from imagetool.location import Location
from imagetool.servicing.plan import Plan
from imagetool.servicing.planning import Prepared, Target, prepare
from imagetool.servicing.strategies.output import OutputStrategy, new_token

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_TOKEN = re.compile(r"it-[0-9a-f]{8}")


class Request(NamedTuple):
    """The question to `plan` and `inject`, as the library asks it."""

    image: Location
    package: str
    output: Location | None
    host: ConfiguredHost
    volume: int | None
    digest: bool
    allow_unsigned: bool
    trusted: Sequence[Certificate]


def prepare_request(request: Request) -> tuple[Prepared, str]:
    """Make the plan of a request; return the name of its output as well. Raises as `prepare`."""
    image = absolute(request.image)
    output = absolute(request.output or default_output(image))
    target = find_target(image, output, request.host)
    prepared = prepare(
        image,
        Path(request.package).absolute(),
        target,
        strategy_for(target, digest=request.digest),
        request.volume,
        name=str(request.image),
        allow_unsigned=request.allow_unsigned,
        trusted=request.trusted,
    )
    return prepared, str(request.output or output)


def common_host(locations: Iterable[Location], option: str | None) -> str | None:
    """Return the name of the one host that locations and `--host` name; None where none does.

    Raises WrongUsage where they name several.
    """
    names: dict[str, str] = {}
    for name in [*(location.host for location in locations), option or ""]:
        if name:
            names.setdefault(name.lower(), name)
    if len(names) > 1:
        raise WrongUsage(
            f"several hosts are named: {', '.join(names.values())}",
            hint="One host does the work: name one, and images that lie there or here.",
        )
    return next(iter(names.values()), None)


def absolute(location: Location) -> Location:
    """Return a location by its whole path; a host is asked for that of a relative one.

    Raises HostFailed.
    """
    if not location.host:
        return location.at(str(Path(location.path).absolute()))
    path = location.path
    # With a slash first, a backslash may be a separator: of a Windows, where it is no whole path.
    if is_windows_path(path) or (path.startswith("/") and "\\" not in path):
        return location
    files = location.files
    assert isinstance(files, HostFiles)
    path = files.session.operate("volume", path=path).text("path")
    if not path:
        raise HostFailed(f"{location}: the host does not say where this is")
    return location.at(path)


def default_output(image: Location) -> Location:
    """Return the output of a plan that names none: beside the image, `-serviced` in its name."""
    return image.sibling(f"{image.stem}-serviced{image.suffix}")


def find_target(image: Location, output: Location, host: ConfiguredHost) -> Target:
    """Return the paths of image and output on the host, each given by its whole path.

    Raises WrongUsage where a path here has none there.
    """
    return Target(host.name, _there(image, host), _there(output, host))


def _there(location: Location, host: ConfiguredHost) -> str:
    return location.path if location.host else path_on_host(host, location.path)


def strategy_for(
    target: Target, saved: Plan | None = None, *, digest: bool = False
) -> OutputStrategy:
    """Return the strategy for a new copy; with the names of a saved plan, if there is one.

    Raises WrongUsage for a saved plan with other names than imagetool gives.
    """
    on_windows = not target.output.startswith("/") or is_windows_path(target.output)
    if saved is None:
        return OutputStrategy(new_token(), on_windows, digest=digest)
    names = {step.name: step.facts for step in saved.steps}
    token = str(names.get("directory", {}).get("name", new_token()))
    if not _TOKEN.fullmatch(token):
        raise WrongUsage(
            f"the plan's private directory is {token!r}, which imagetool does not make",
            hint="Make the plan again.",
        )
    return OutputStrategy(token, on_windows, digest="digest" in names)
