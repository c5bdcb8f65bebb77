"""Package media: a disc, a cabinet, or a folder with update.mum."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType

from imagetool.budget import Budget
from imagetool.contracts import Source
from imagetool.disk.file_kinds import PACKAGE_WANTED, recognise_file
from imagetool.disk.local_files import FileSource
from imagetool.disk.source import MemorySource
from imagetool.errors import Corrupt, NotFound, NotRecognised, Unsupported
from imagetool.package.cab import Cabinet
from imagetool.package.cab.sets import join_set
from imagetool.package.cbs import (
    ComponentManifest,
    PackageManifest,
    parse_component_manifest,
    parse_package_manifest,
)
from imagetool.package.disc import Disc, is_disc
from imagetool.package.folder import Folder
from imagetool.package.identity import Identity, Version

MANIFEST = "update.mum"
_MSU_SCAN_DATA = "wsusscan.cab"
_MSU_MEMBER = re.compile(r"wsusscan\.cab|.*-pkgproperties\.txt", re.I)
_KB = re.compile(r"KB\d{6,8}", re.I)
_MAX_MANIFESTS = 2000
_MAX_MANIFESTS_SIZE = 32 << 20
_MAX_WARNINGS = 10
_CABINET_COST, _PACKAGE_COST = 100, 300  # objects: a disc has a few, a hostile one thousands


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a package, with / between directories, and its size in bytes."""

    name: str
    size: int
    target: str | None = None
    """Where it leads, if it is a symbolic link of a disc."""


@dataclass(frozen=True, slots=True)
class Component:
    """A component or driver of a package: its manifest and its payload directory."""

    directory: str
    """The payload directory; also the manifest's file name without its extension."""
    manifest: ComponentManifest


class Package:
    """A CBS package: identity, parents and files, each read on first use."""

    def __init__(
        self,
        name: str,
        members: Callable[[], tuple[Member, ...]],
        read: Callable[[str], bytes],
        source: Source | None,
        cabinet: Cabinet | None = None,
        irregular: Callable[[], tuple[tuple[str, str], ...]] = tuple,
    ) -> None:
        self.name = name
        """The file name; on a disc the path."""
        self._members = members
        self._read = read
        self._irregular = irregular
        self.source = source
        """The bytes of the cabinet; None for a folder."""
        self.budget = source.budget if source is not None else Budget()
        self.cabinet = cabinet
        self.disc_doubts: tuple[str, ...] = ()
        """Why what a system reads from this disc may be something else than this package."""

    def __repr__(self) -> str:
        return f"Package({self.name!r})"

    @cached_property
    def manifest(self) -> PackageManifest:
        """update.mum. Raises Corrupt."""
        where = f"{self.name}: {MANIFEST}"
        return parse_package_manifest(self.read(MANIFEST), where, self.budget)

    @property
    def identity(self) -> Identity:
        """The identity that update.mum states."""
        return self.manifest.identity

    @property
    def version(self) -> Version:
        """The version of the package, which is that of its drivers."""
        return self.identity.version

    @property
    def architecture(self) -> str:
        """amd64 or x86."""
        return self.identity.architecture

    @cached_property
    def digest_algorithms(self) -> tuple[str, ...]:
        """The digest algorithms (sha1, sha256) of the signatures that can be read."""
        from imagetool.package.signature.check import read_digest_algorithms

        return read_digest_algorithms(self)

    @property
    def parents(self) -> tuple[Identity, ...]:
        """The package applies where any one of these is installed."""
        return self.manifest.parents

    @property
    def size(self) -> int:
        """The size in bytes of the cabinet, or of all files of a folder."""
        if self.source is not None:
            return self.source.size
        return sum(member.size for member in self.members())

    def members(self) -> tuple[Member, ...]:
        """The files of the package."""
        return self._members()

    def irregular(self) -> tuple[tuple[str, str], ...]:
        """Return what lies in a folder and is no regular file: names, and what they are."""
        return self._irregular()

    def read(self, name: str) -> bytes:
        """Read a file of the package. Raises NotFound, Corrupt, Unsupported."""
        return self._read(name)

    def components(self) -> tuple[Component, ...]:
        """Parse the manifests of all components and drivers. Raises Corrupt, BudgetSpent."""
        with self.budget:
            return tuple(self._read_components())

    def _read_components(self) -> Iterator[Component]:
        listed = [
            member
            for member in self.members()
            if member.name.lower().endswith(".manifest") and "/" not in member.name
        ]
        size = sum(member.size for member in listed)
        if len(listed) > _MAX_MANIFESTS or size > _MAX_MANIFESTS_SIZE:
            raise Unsupported(
                f"{self.name}: {len(listed)} manifests of {size} bytes in all, which is more than "
                "any integration services package has",
            )
        for member in listed:
            where = f"{self.name}: {member.name}"
            manifest = parse_component_manifest(self.read(member.name), where, self.budget)
            yield Component(member.name[: -len(".manifest")], manifest)

    def read_cabinet(self) -> bytes:
        """Read the whole cabinet. Raises NotFound for a folder."""
        if self.source is None:
            raise NotFound(
                f"{self.name}: a folder cannot be handed to a host as one file",
                hint="Name the CAB that it was extracted from.",
            )
        return self.source.read_at(0, self.source.size)


class Media:
    """A disc, cabinet or folder with its packages. Close it, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._stack = ExitStack()
        self.disc: Disc | None = None
        self.cabinet: Cabinet | None = None
        self.warnings: tuple[str, ...] = ()
        """What of a disc was not read, each a sentence."""
        if os.path.isdir(path):  # noqa: PTH112  # of a name that no system has it is False
            self.kind = "folder"
            self.packages: tuple[Package, ...] = (_folder_package(path),)
            return
        source = self._stack.enter_context(FileSource(path))
        try:
            if source.read_at(0, 4) == b"MSCF":
                self.kind = "cabinet"
                self.cabinet = Cabinet(source)
                join_set(self.cabinet, path.parent, self._stack.enter_context)
                self.packages = tuple(_cabinet_packages(self.cabinet, path.name, source))
            elif is_disc(source):
                self.kind = "disc"
                self.disc = Disc(source)
                with self.disc.budget:
                    self.packages, self.warnings = _disc_packages(self.disc)
            else:
                kind = recognise_file(source)
                raise NotRecognised(
                    f"{path}: this is {kind.name if kind else 'a file of an unknown kind'}: no "
                    f"cabinet, no disc and no folder with {MANIFEST}",
                    hint=kind.as_package if kind else PACKAGE_WANTED,
                )
        except BaseException:  # an interruption, too
            self._stack.close()
            raise

    @property
    def budget(self) -> Budget:
        """What a question on all of its packages may cost."""
        if self.disc is not None:
            return self.disc.budget
        return self.packages[0].budget if self.packages else Budget()

    def close(self) -> None:
        """Close all files."""
        self._stack.close()

    def __enter__(self) -> Media:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def open_media(path: str | Path) -> Media:
    """Open a disc, cabinet or folder, with or without packages in it.

    Raises CannotOpen, NotRecognised, Unsupported, Corrupt.
    """
    return Media(Path(path))


def open_package(path: str | Path) -> Media:
    """Open a disc, cabinet or folder, as open_media; raises NotRecognised if it has no package."""
    media = open_media(path)
    if not media.packages:
        media.close()
        if media.kind == "cabinet":
            raise _no_package_in_cabinet(media)
        about = f" ({'; '.join(media.warnings[:3])})" if media.warnings else ""
        raise NotRecognised(
            f"{path}: this disc holds no packages: no cabinet with {MANIFEST}{about}",
            hint="vmguest.iso of a Server 2012 R2 host or earlier has them; later hosts have none.",
        )
    return media


def _no_package_in_cabinet(media: Media) -> NotRecognised:
    """The error for a cabinet without a package; an MSU is one, and holds further cabinets."""
    names = [] if media.cabinet is None else [item.name for item in media.cabinet.members]
    cabinets = [name for name in names if name.lower().endswith(".cab")]
    if cabinets and any(_MSU_MEMBER.fullmatch(name) for name in names):
        inner = [name for name in cabinets if name.lower() != _MSU_SCAN_DATA]
        updates = dict.fromkeys(match[0].upper() for match in map(_KB.search, inner) if match)
        about = f", the update {', '.join(updates)}" if updates else ""
        return NotRecognised(
            f"{media.name}: this is an MSU{about}, and no package itself: it holds "
            f"{', '.join(inner[:5]) or 'no package'}",
            hint="`imagetool package extract MSU FOLDER` takes the CAB out of it; then name that.",
        )
    return NotRecognised(
        f"{media.name}: this is a cabinet, but no CBS package: there is no {MANIFEST} in it",
        hint="`imagetool package list` shows what is in it.",
    )


def package_in_cabinet(data: bytes, name: str) -> Package:
    """Return the package in the bytes of a cabinet. Raises NotRecognised where it holds none."""
    source = MemorySource(data, name)
    for package in _cabinet_packages(Cabinet(source), name, source):
        return package
    raise NotRecognised(f"{name}: there is no {MANIFEST} in this cabinet")


def _cabinet_package(cabinet: Cabinet, name: str, source: Source) -> Package:
    def members() -> tuple[Member, ...]:
        return tuple(Member(item.name, item.size) for item in cabinet.members)

    return Package(name, members, cabinet.read, source, cabinet)


def _cabinet_packages(cabinet: Cabinet, name: str, source: Source) -> list[Package]:
    found = cabinet.find(MANIFEST)
    return [_cabinet_package(cabinet, name, source)] if found is not None else []


def _disc_packages(disc: Disc) -> tuple[tuple[Package, ...], tuple[str, ...]]:
    """Return the packages of a disc, found by their content, and what of it was not read.

    A damaged cabinet does not refuse the others. Several names of the same bytes are one package.
    Raises BudgetSpent.
    """
    found: list[Package] = []
    broken: list[str] = []
    looked_at: set[object] = set()
    for file in sorted(disc.files, key=lambda file: file.path.lower()):
        if file.extents in looked_at or not disc.is_cabinet(file):
            continue
        looked_at.add(file.extents)
        disc.budget.spend(disc.name, _CABINET_COST)
        try:
            source = disc.open(file)
            packages = _cabinet_packages(Cabinet(source), file.path, source)
            disc.budget.spend(disc.name, len(packages) * _PACKAGE_COST)
            found += packages
        except (Corrupt, Unsupported) as error:
            broken.append(error.message.removeprefix(f"{disc.name}: "))
    doubts = (*disc.doubts(), *broken[:_MAX_WARNINGS])
    for package in found:
        package.disc_doubts = doubts
    elsewhere = [
        f"the {name} side of the disc alone has {file.path} ({file.size} bytes)"
        for name, file in disc.only_elsewhere
    ]
    unread = (*broken, *elsewhere)
    if len(unread) > _MAX_WARNINGS:
        more = f"and {len(unread) - _MAX_WARNINGS} more of this kind"
        unread = (*unread[:_MAX_WARNINGS], more)
    return tuple(found), (*disc.warnings, *unread)


def _folder_package(path: Path) -> Package:
    if not (path / MANIFEST).is_file():
        raise NotRecognised(
            f"{path}: this folder holds no {MANIFEST}",
            hint=PACKAGE_WANTED,
        )
    folder = Folder(path)

    def members() -> tuple[Member, ...]:
        return tuple(Member(item.name, item.size) for item in folder.entries() if not item.kind)

    def irregular() -> tuple[tuple[str, str], ...]:
        return tuple((item.name, item.kind) for item in folder.entries() if item.kind)

    return Package(path.name, members, folder.read, None, irregular=irregular)
