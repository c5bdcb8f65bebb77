"""The strategy of `--output`: a copy beside the output is serviced, proved, and given its name."""

from __future__ import annotations

import ntpath
import posixpath
import secrets
from collections.abc import Iterator

from imagetool.servicing.plan import Plan, PlannedStep


def new_token() -> str:
    """Return a short name for what the work makes: `it-` and eight hexadecimal digits."""
    return f"it-{secrets.token_hex(4)}"


class OutputStrategy:
    """Service a copy. `on_windows`: True if the host's paths follow the rules of Windows.

    `token` begins the names of all that is made on the way.
    """

    def __init__(self, token: str, on_windows: bool, *, digest: bool = False) -> None:
        self._token = token
        self._rules = ntpath if on_windows else posixpath
        self._digest = digest

    def steps(self, plan: Plan) -> Iterator[PlannedStep]:
        """As Strategy.steps."""
        image, output = plan.image.path, plan.output
        suffix = plan.image.state.identity.format.lower()  # Windows mounts no other name
        copy = self._rules.join(self._rules.dirname(output), f"{self._token}.{suffix}")
        mounted = {"image": copy, "offset": plan.image.partition_offset}
        yield PlannedStep("directory", {"name": self._token})
        yield PlannedStep("stage", {"size": plan.package.size, "sha256": plan.package.sha256})
        yield PlannedStep("copy", {"source": image, "target": copy})
        yield PlannedStep("mount", {"image": copy})
        yield PlannedStep("access-path", mounted)
        yield PlannedStep("add", {"package": plan.package.identity, "sha256": plan.package.sha256})
        yield PlannedStep("read-back", {"package": plan.package.identity})
        yield PlannedStep("dismount", mounted)
        yield PlannedStep("prove", {"image": copy})
        yield PlannedStep("compare", {"image": image})
        if self._digest:
            yield PlannedStep("digest", {"image": image, "copy": copy})
        yield PlannedStep("publish", {"source": copy, "target": output})
