"""inject as the tests call it: a path here, a session that is opened by a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagetool.contracts import Host
from imagetool.host.files import FileOperations
from imagetool.location import Location
from imagetool.servicing.inject import Injection
from imagetool.servicing.inject import inject as inject_prepared
from imagetool.servicing.planning import Prepared, Target
from imagetool.servicing.planning import prepare as prepare_on_host
from imagetool.servicing.steps import Work
from imagetool.servicing.targets import strategy_for


def prepare(image: Path, package: Path, output: Path, **options: Any) -> Prepared:
    """Make the plan for a host whose paths are those of this machine."""
    target = Target("lab", str(image.absolute()), str(output.absolute()))
    location, strategy = (
        Location(target.image),
        strategy_for(target, digest=options.pop("digest", False)),
    )
    return prepare_on_host(location, package, target, strategy, **options)


def inject(
    image: Path,
    package: Path,
    open_host: Callable[[], Host],
    output: Path,
    *,
    allow_unsigned: bool = True,
    trusted: Any = (),
    **options: Any,
) -> Injection:
    """Plan and inject. The packages that the tests make are unsigned."""
    prepared = prepare(image, package, output, allow_unsigned=allow_unsigned, trusted=trusted)
    return inject_prepared(prepared, open_host, **options)


def begin(host: Host, prepared: Prepared) -> Work:
    """The common ground of the steps, as `inject` lays it."""
    written = FileOperations(host).stat(prepared.plan.image.path).last_written
    return Work(host, prepared.plan, prepared.payload, image_written=written)
