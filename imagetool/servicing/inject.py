"""Put a payload into a copy of an image, through a Hyper-V host.

The image itself is never opened for writing. A copy beside the output is mounted, serviced, read
back, dismounted, proved with imagetool's own readers, and only then given its name. What ends the
work early leaves no mount and no file, and the image is looked at once more before anything is said
about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, NamedTuple

from imagetool.contracts import Host, Reportable
from imagetool.errors import (
    CannotWrite,
    DoesNotApply,
    HostFailed,
    ImagetoolError,
    LeftBehind,
    ServicingFailed,
    Unreadable,
)
from imagetool.host.answers import CmdletFailed
from imagetool.host.files import FileOperations
from imagetool.host.patience import Patience
from imagetool.host.reading import HostFiles
from imagetool.servicing.image_state import difference
from imagetool.servicing.plan import Plan, differences
from imagetool.servicing.planning import Prepared
from imagetool.servicing.preconditions import check_host, check_output, older_dism
from imagetool.servicing.steps import Work, compare
from imagetool.servicing.transaction import (
    DEFAULT_PATIENCE,
    OnProgress,
    RecordList,
    RecordSink,
    StepReport,
    Transaction,
)
from imagetool.verdict.verify import Verification

if TYPE_CHECKING:
    from datetime import datetime

    from imagetool.contracts import Files
    from imagetool.package.signature.check import PackageReport

_DISK_FULL_CODES = (0x80070070, 0x80070027, 0x8007001C, 0x1C)  # Windows, and ENOSPC elsewhere
_OUTPUT_OPERATIONS = ("copy", "rename")
"""Operations that need room on the disk of the output, and nowhere else."""
_TEMPORARY_OPERATIONS = ("write", "make-private-directory", "make-directory")
_OTHER_IMAGE_HINT = (
    "Check how paths here and paths on the host correspond, and whether a copy is stale."
)


class InjectionFields(NamedTuple):
    """The fields of Injection."""

    plan: Plan
    signature: PackageReport | None
    """The findings on the bytes that were staged; None where nothing was."""
    output: str = ""
    """HOST:PATH or path of the serviced copy; empty where none was made."""
    host_description: str = ""
    """The description of the session's PowerShell; empty where no host was asked."""
    emulated: bool = False
    """True if the host was the emulated one."""
    package_state: str = ""
    """PackageState as the host reads it back: Installed or InstallPending."""
    proof: Verification | None = None
    steps: tuple[StepReport, ...] = ()
    digests: Mapping[str, str] = {}
    """The SHA-256 of `image` and `copy` as the host computes them, where that was asked for."""
    host_warnings: tuple[str, ...] = ()
    dism_log: str = ""


class Injection(InjectionFields, Reportable):
    """The result of an injection: the plan, the output, its proof, and how it went."""

    __slots__ = ()

    def __repr__(self) -> str:
        if self.proof is None:
            return f"Injection({self.plan.image.name!r}, 'nothing to do')"
        return f"Injection({self.output!r}, {self.package_state!r})"


class FailedInjection(NamedTuple):
    """An image that was not serviced: its name, the error, and what was done by then."""

    image: str
    error: ImagetoolError
    plan: Plan | None = None
    steps: tuple[StepReport, ...] = ()
    host_warnings: tuple[str, ...] = ()
    dism_log: str = ""


class InjectionReportFields(NamedTuple):
    """The fields of InjectionReport."""

    images: tuple[Injection | FailedInjection, ...]
    error: ImagetoolError | None = None
    """The failure that ended the work before every image had its turn."""


class InjectionReport(InjectionReportFields, Reportable):
    """The results of one command on several images."""

    __slots__ = ()

    @property
    def holds(self) -> bool:
        """True if every image was serviced, or needs nothing."""
        return self.error is None and all(isinstance(item, Injection) for item in self.images)


class HowItWent(NamedTuple):
    """The steps, warnings and log of a transaction that failed."""

    steps: tuple[StepReport, ...]
    host_warnings: tuple[str, ...]
    dism_log: str


def inject(
    prepared: Prepared,
    open_host: Callable[[], Host],
    *,
    output_name: str = "",
    journal: RecordSink | None = None,
    on_progress: OnProgress | None = None,
    on_failure: Callable[[HowItWent], None] | None = None,
    patience: Patience = DEFAULT_PATIENCE,
) -> Injection:
    """Do what a plan says. `open_host` opens a session with the host, a second one if it fails.

    `output_name` is the name of the output in messages; by default its path. `on_failure` is told
    how far the work went before its error is raised. `patience`: how long a host that is late is
    asked again. Raises CannotWrite where the output cannot be
    written, HostFailed where the host cannot be reached or is not fit for it, ServicingFailed where
    it refuses or the result cannot be proved, LeftBehind where something could not be undone.
    """
    plan = prepared.plan
    if plan.nothing_to_do:
        return Injection(plan, prepared.signature)
    with ExitStack() as until_the_end, closing(open_host()) as host:
        check_host(host, plan)
        written = _check_same_image(host, plan)
        check_output(host, plan)
        work = Work(host, plan, prepared.payload, image_written=written)
        transaction = Transaction(
            work,
            RecordList() if journal is None else journal,
            open_host,
            until_the_end,
            on_progress,
            patience,
        )
        transaction.warn(older_dism(host, plan))
        failure: BaseException | None = None
        try:
            transaction.run(plan.steps)
        except BaseException as error:  # an interruption, too
            failure = error
        left = transaction.undo()
        if failure is not None and on_failure is not None:
            reports = tuple(transaction.reports)
            on_failure(HowItWent(reports, tuple(transaction.warnings), work.dism_log))
        if left:
            raise _left_behind(plan, left, failure) from failure
        if failure is not None:
            raise _explained(work, failure, open_host) from failure
        name = output_name or plan.output
        assert work.proof is not None  # the strategy has proved it
        return Injection(
            plan,
            prepared.signature,
            name,
            host.description,
            host.emulated,
            work.package_state,
            work.proof._replace(image=name),  # the copy that was proved has this name now
            tuple(transaction.reports),
            work.digests,
            tuple(transaction.warnings),
            work.dism_log,
        )


def _check_same_image(host: Host, plan: Plan) -> datetime | None:
    """Check that the host has the image that the plan was made of; return its last write there.

    Raises HostFailed.
    """
    written = FileOperations(host).stat(plan.image.path).last_written
    try:
        found = difference(HostFiles(host), plan.image.path, plan.image.state)
    except HostFailed:
        raise
    except Unreadable as error:
        raise HostFailed(
            f"the host cannot read the image that is to be serviced: {error.message}",
            hint=error.hint or _OTHER_IMAGE_HINT,
        ) from error
    if found:
        raise HostFailed(
            f"{plan.image.path}: on the host this is another image than was planned: {found}",
            hint=_OTHER_IMAGE_HINT,
        )
    return written


def check_unchanged(files: Files, path: str, saved: Plan, fresh: Plan) -> None:
    """Check that a saved plan still holds: image and package are what they were.

    `files` and `path` are those of the image, as the saved plan names it. Raises DoesNotApply with
    the first difference, Unreadable, HostFailed.
    """
    state = saved.image.state
    changed = difference(files, path, state)
    written = files.stat(path).last_written
    if not changed and written != state.last_written:
        changed = f"it was written at {written}, not at {state.last_written}"
    found = [changed] if changed else differences(saved, fresh)
    if found:
        raise DoesNotApply(
            f"{saved.image.name}: the plan is blocked: since it was made something changed: "
            f"{found[0]}",
            hint="Make the plan again, review it, and inject by it.",
        )


def _left_behind(plan: Plan, left: list[str], failure: BaseException | None) -> LeftBehind:
    after = f"{failure}; then " if isinstance(failure, ImagetoolError) else ""
    if isinstance(failure, KeyboardInterrupt):
        after = "interrupted; then "
    if failure is None:
        after = f"{plan.output} is made and proved; "
    return LeftBehind(
        f"{after}this was left behind: {'; '.join(left)}",
        hint="Take it away by hand where it lies.",
    )


def _explained(work: Work, failure: BaseException, open_host: Callable[[], Host]) -> BaseException:
    """Return the error to raise for a failure, with what was seen of the image afterwards."""
    if not isinstance(failure, ImagetoolError):
        return failure
    seen = _look_at_image(work, open_host)
    message, hint = f"{failure.message}; {seen}", failure.hint
    if isinstance(failure, CmdletFailed):
        if failure.hresult in _DISK_FULL_CODES:
            return CannotWrite(
                f"{_full_disk(work.plan, failure)}; {seen}",
                hint="A serviced copy needs the size of the image, and some for the package; the "
                "guest's volume and DISM's scratch directory need room as well.",
            )
        return ServicingFailed(message, hint=hint)
    return type(failure)(message, hint=hint)


def _full_disk(plan: Plan, failure: CmdletFailed) -> str:
    if failure.cmdlet in _OUTPUT_OPERATIONS:
        return f"the disk that {plan.output} lies on is full"
    if failure.cmdlet in _TEMPORARY_OPERATIONS:
        return "the disk of the host's temporary directory is full"
    return failure.message


def _look_at_image(work: Work, open_host: Callable[[], Host]) -> str:
    """Say of the image what is seen of it now, through another session where this one failed."""
    name, path = work.plan.image.name, work.plan.image.path
    try:
        try:
            changed = compare.changed(work.host, work, path)
        except HostFailed:
            with closing(open_host()) as host:
                changed = compare.changed(host, work, path)
    except ImagetoolError:
        return f"{name} could not be looked at again"
    if changed:
        return f"{name} has changed meanwhile, and not by imagetool: {changed}"
    return f"{name} is as it was"
