"""An integration services package: put in by DISM, and proved file by file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from imagetool.contracts import Host, OnEvent, Result
from imagetool.errors import ImagetoolError, ServicingFailed
from imagetool.guest.image import Image
from imagetool.guest.windows.components import INSTALL_PENDING, INSTALLED, PERMANENT
from imagetool.guest.windows.installation import WindowsInstallation
from imagetool.guest.windows.payload import installed_path
from imagetool.host.answers import CmdletFailed
from imagetool.package.identity import Identity
from imagetool.servicing.payloads import Staged
from imagetool.servicing.plan import Plan, PlannedPackage, read_disk_identity
from imagetool.verdict.verify import Criteria, Verification, verify

if TYPE_CHECKING:
    from imagetool.package.signature.check import PackageReport

_SUCCESS_STATES = ("Installed", "InstallPending")
_FILES_AT_ONCE = 32
_LOG_HINT = "Look at the host's DISM log."


class IntegrationServices:
    """The cabinet of an integration services package, and the SHA-256 of each of its files."""

    def __init__(
        self, name: str, identity: Identity, cabinet: bytes, members: Mapping[str, str]
    ) -> None:
        self.name = name
        self.identity = identity
        self.data = cabinet
        self.members = members

    @property
    def title(self) -> str:
        """As Payload.title."""
        return str(self.identity)

    def describe(self, media: str, signature: PackageReport | None) -> PlannedPackage:
        """Return what a plan says of it. `media` is the path of the medium, as it was named."""
        return PlannedPackage(
            media=media,
            name=self.name,
            identity=str(self.identity),
            size=len(self.data),
            sha256=hashlib.sha256(self.data).hexdigest() if self.data else "",
            members=self.members,
            judgement=signature.judgement.value if signature is not None else "",
        )

    def probe(self, host: Host, staged: Staged) -> None:
        """As Payload.probe: a DISM that cannot list packages would not add one either."""
        try:
            self._list_packages(host, staged)
        except CmdletFailed as error:
            raise ServicingFailed(
                f"the host's DISM cannot service the Windows in the copy: {error.message}",
                hint=error.hint
                or "Take a host that is as new as the guest, or another DISM "
                "(dism_module in the configuration).",
            ) from None

    def run(self, host: Host, staged: Staged, on_event: OnEvent | None) -> None:
        """As Payload.run: Add-WindowsPackage."""
        host.invoke(
            "Add-WindowsPackage",
            Path=staged.volume,
            PackagePath=staged.file,
            ScratchDirectory=staged.scratch,
            LogPath=staged.log,
            on_event=on_event,
        )

    @staticmethod
    def _list_packages(host: Host, staged: Staged) -> list[Result]:
        return host.invoke(
            "Get-WindowsPackage",
            Path=staged.volume,
            ScratchDirectory=staged.scratch,
            LogPath=staged.log,
            properties=("PackageName", "PackageState"),
        )

    def read_back(self, host: Host, staged: Staged) -> str:
        """As Payload.read_back: no error from Add-WindowsPackage is no proof."""
        for record in self._list_packages(host, staged):
            if str(record.get("PackageName")).lower() == self.title.lower():
                state = str(record.get("PackageState"))
                if state in _SUCCESS_STATES:
                    return state
                raise ServicingFailed(f"the host says that {self.identity} is {state} in the copy")
        raise ServicingFailed(
            f"the host took {self.identity} without complaint, and does not list it in the copy",
            hint="Another servicing operation may be pending in the image: boot the guest once.",
        )

    def expect(self, image: Image, plan: Plan) -> Verification:
        """As Payload.expect: every file byte for byte, the package's state, the disk's identity."""
        try:
            with image.budget:
                return self._expect(image, plan)
        except ServicingFailed:
            raise
        except ImagetoolError as error:
            raise ServicingFailed(
                f"the serviced copy cannot be read back: {error.message}", hint=_LOG_HINT
            ) from None

    def _expect(self, image: Image, plan: Plan) -> Verification:
        found, before = read_disk_identity(image), plan.image.disk
        if found[1:] != before[1:]:
            raise _proof_failed(f"its identifiers changed from {before} to {found}")
        self._expect_files(image.windows(plan.image.volume))
        criteria = Criteria(at_least=self.identity.version, require="installed")
        result = verify(image, criteria, volume=plan.image.volume)
        states = {item.identity: item.state for item in result.components.packages}
        if states.get(self.identity) not in (INSTALL_PENDING, INSTALLED, PERMANENT):
            raise _proof_failed(f"{self.identity} is not among its installed packages")
        gaps = [
            gap
            for item in result.components.packages
            if item.identity == self.identity and item.payload is not None
            for gap in item.payload.missing
        ]
        if gaps:
            raise _proof_failed(f"{gaps[0]} is missing")
        if not result.verdict.installed:
            reasons = "; ".join(result.verdict.reasons)
            raise _proof_failed(f"the verdict is {result.verdict.outcome.value}: {reasons}")
        return result

    def _expect_files(self, windows: WindowsInstallation) -> None:
        """Compare the SHA-256 of every file of the package with the installed file."""
        names = list(self.members)
        for start in range(0, len(names), _FILES_AT_ONCE):
            self._expect_some(windows, names[start : start + _FILES_AT_ONCE])

    def _expect_some(self, windows: WindowsInstallation, names: Sequence[str]) -> None:
        paths = [installed_path(name, self.identity) for name in names]
        for name, path, node in zip(names, paths, windows.volume.find_many(paths), strict=True):
            if node is None:
                raise _proof_failed(f"{path} is missing")
            source = node.open()
            digest = hashlib.sha256()
            for offset in range(0, source.size, 1 << 20):
                digest.update(source.read_at(offset, 1 << 20))
            if digest.hexdigest() != self.members[name]:
                raise _proof_failed(f"{path} has other bytes than the package")


def _proof_failed(what: str) -> ServicingFailed:
    return ServicingFailed(f"the serviced copy is not what it must be: {what}", hint=_LOG_HINT)
