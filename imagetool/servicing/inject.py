"""Put an integration services package into a copy of an image, through a Hyper-V host.

The image itself is never opened for writing. Everything happens in a private directory beside the
result: the package is staged there, the image copied there, and the copy is mounted, serviced,
read back, dismounted, proved with imagetool's own readers, and only then given its name. Each step
pushes its clean-up action on a stack before the next one begins, so whatever ends the work early (a
refusal, a cmdlet that fails, Ctrl-C) leaves no mount and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from imagetool.contracts import Event, Reportable
from imagetool.errors import CannotWrite, HostFailed, ServicingFailed
from imagetool.host.answers import CmdletFailed
from imagetool.host.session import Session
from imagetool.servicing.cleanup import CleanupStack, ignore_interrupts
from imagetool.servicing.identity import check_same_image
from imagetool.servicing.mount import MountedImage, dismount, mount
from imagetool.servicing.plan import Plan, make_plan
from imagetool.servicing.proof import prove
from imagetool.verdict.verify import Verification

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_SUCCESS_STATES = ("Installed", "InstallPending")
_DISK_FULL_CODES = (0x80070070, 0x80070027, 0x8007001C, 0x1C)  # Windows, and ENOSPC elsewhere
_OUTPUT_OPERATIONS = ("copy", "write", "make-private-directory", "make-directory", "rename")
"""Operations that need room on the disk of the output, and nowhere else."""


def _ignore_step(step: str) -> None:
    return None


@dataclass(frozen=True, slots=True, repr=False)
class Injection(Reportable):
    """The result of an injection: the plan, the path of the output, and its proof."""

    plan: Plan
    output: str
    """Empty where there was nothing to do."""
    host_description: str
    """The description of the session's PowerShell; empty where there was nothing to do."""
    package_state: str
    """PackageState as the host reads it back: Installed or InstallPending."""
    proof: Verification | None

    def __repr__(self) -> str:
        if self.proof is None:
            return f"Injection({self.plan.image!r}, 'nothing to do')"
        return f"Injection({self.output!r}, {self.package_state!r})"


def inject(
    image: str | Path,
    package: str | Path,
    open_session: Callable[[], Session],
    output: str | Path,
    *,
    volume: int | None = None,
    allow_unsigned: bool = False,
    trusted: Sequence[Certificate] = (),
    on_step: Callable[[str], None] = _ignore_step,
    on_event: Callable[[Event], None] | None = None,
) -> Injection:
    """Service a copy of `image` with the fitting package of `package`, as `output`.

    The bytes that will be staged must be genuine; `allow_unsigned` and `trusted` as make_plan.
    `open_session` opens the session with the host, where the paths must be the same as here. Raises
    DoesNotApply, CannotWrite where `output` exists, HostFailed where the host cannot be reached,
    ServicingFailed where it refuses or the result cannot be proved (the image is as it was, and
    nothing is left), LeftBehind where the clean-up failed as well.
    """
    source, target = Path(image).absolute(), Path(output).absolute()
    on_step("check the image and the package")
    _check_target(target)
    plan = make_plan(source, Path(package), volume, allow_unsigned=allow_unsigned, trusted=trusted)
    if plan.nothing_to_do:
        return Injection(plan, "", "", "", None)
    with ExitStack() as outer_stack, open_session() as session:
        on_step(f"talk to the host: {session.description}")
        _check_host(session, source)
        with CleanupStack() as cleanup:
            state, proof = _transaction(
                session,
                plan,
                source,
                Path(package),
                target,
                cleanup,
                outer_stack,
                on_step,
                on_event,
            )
        return Injection(plan, str(target), session.description, state, proof)


def _check_host(session: Session, image: Path) -> None:
    """Check that the host has Hyper-V's cmdlets, reads the same image, and has not mounted it."""
    for record in session.invoke("Get-VHD", Path=str(image), properties=("Attached",)):
        if record.flag("Attached"):
            raise HostFailed(
                f"{image}: the host has this image mounted",
                hint="Dismount it there (Dismount-VHD), then try again.",
            )
    check_same_image(session, image, str(image))


def _check_target(target: Path) -> None:
    try:
        if target.exists():
            raise CannotWrite(
                f"{target}: there is a file of that name already", hint="Choose another output."
            )
        if not target.parent.is_dir():
            raise CannotWrite(
                f"{target.parent}: there is no such directory", hint="Make it, or name another."
            )
    except OSError as error:  # a name that is too long
        raise CannotWrite(
            f"{target}: cannot be written: {error.strerror}", hint="Choose another output."
        ) from None


def _transaction(
    session: Session,
    plan: Plan,
    image: Path,
    package: Path,
    target: Path,
    cleanup: CleanupStack,
    outer_stack: ExitStack,
    on_step: Callable[[str], None],
    on_event: Callable[[Event], None] | None,
) -> tuple[str, Verification]:
    try:
        on_step("stage the package in a private directory on the host")
        private = target.parent / f"imagetool-{uuid4().hex}"
        cleanup.push(
            f"the directory {private}", lambda: session.files.remove_directory(str(private))
        )
        session.files.make_private_directory(str(private))
        cabinet = private / "package.cab"
        cleanup.push(f"the file {cabinet}", lambda: session.files.delete(str(cabinet)))
        session.files.upload(plan.cabinet, str(cabinet))

        on_step("copy the image")
        copy = private / f"copy{target.suffix or '.vhdx'}"
        delete_copy = cleanup.push(f"the file {copy}", lambda: session.files.delete(str(copy)))
        session.files.copy(str(image), str(copy))

        disk = mount(session, copy, private / "mount", plan.partition_offset, cleanup, on_step)
        on_step(f"add {plan.identity}")
        session.invoke(
            "Add-WindowsPackage",
            Path=str(disk.directory),
            PackagePath=str(cabinet),
            on_event=on_event,
        )
        on_step("read the package's state back")
        state = _read_package_state(session, disk, plan)
        on_step("dismount")
        dismount(cleanup, disk)

        on_step("prove the copy with our own readers")
        proof = prove(copy, plan, package)
        on_step("give the result its name")
        # The renamed result stays: from here on an interruption comes too late.
        outer_stack.enter_context(ignore_interrupts())
        session.files.rename(str(copy), str(target))
        cleanup.keep(delete_copy)
    except CmdletFailed as error:
        if error.hresult in _DISK_FULL_CODES:
            where = (
                f"the disk that {target.parent} lies on is full"
                if error.cmdlet in _OUTPUT_OPERATIONS
                else error.message
            )
            raise CannotWrite(
                f"{where}; {image} is as it was",
                hint="A serviced copy needs the size of the image, and some for the package; the "
                "guest's volume and DISM's scratch directory need room as well.",
            ) from error
        raise ServicingFailed(f"{error.message}; {image} is as it was", hint=error.hint) from error
    return state, proof


def _read_package_state(session: Session, disk: MountedImage, plan: Plan) -> str:
    """Read the package's state with Get-WindowsPackage: no error from Add is no proof."""
    records = session.invoke(
        "Get-WindowsPackage", Path=str(disk.directory), properties=("PackageName", "PackageState")
    )
    for record in records:
        if str(record.get("PackageName")).lower() == str(plan.identity).lower():
            state = str(record.get("PackageState"))
            if state in _SUCCESS_STATES:
                return state
            raise ServicingFailed(f"the host says that {plan.identity} is {state} in the copy")
    raise ServicingFailed(
        f"the host took {plan.identity} without complaint, and does not list it in the copy",
        hint="Another servicing operation may be pending in the image: boot the guest once.",
    )
