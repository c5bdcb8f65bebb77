"""prove: the copy is read by imagetool's own readers, where it lies."""

from __future__ import annotations

from imagetool.errors import HostFailed, ServicingFailed, Unreadable
from imagetool.guest.image import open_image
from imagetool.host.reading import HostFiles
from imagetool.servicing.plan import Facts
from imagetool.servicing.steps import StepKind, Work


def _do(work: Work, facts: Facts) -> None:
    try:
        image = open_image(facts["image"], files=HostFiles(work.host))
    except HostFailed:
        raise
    except Unreadable as error:
        raise ServicingFailed(
            f"the serviced copy cannot be read back: {error.message}",
            hint="Look at the host's DISM log.",
        ) from None
    with image:
        work.proof = work.payload.expect(image, work.plan)


KINDS = {"prove": StepKind("prove", "prove the copy with our own readers", _do)}
