"""The plan of an injection: what would be done, as data that goes to JSON and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from imagetool.contracts import Reportable
from imagetool.disk.local_files import FileSource
from imagetool.errors import Corrupt
from imagetool.guest.image import Image, ImageIdentity
from imagetool.servicing.image_state import ImageState, ReadRanges

T = TypeVar("T")
Facts = Mapping[str, Any]
"""Plain JSON: texts, numbers, truth values, lists and mappings of them."""

PLAN_SCHEMA = "imagetool/plan/1"
_MAX_PLAN_SIZE = 64 << 20


class DiskIdentity(NamedTuple):
    """The identifiers of a disk. Servicing must not change those by which a guest knows it."""

    disk_id: str
    """The VirtualDiskId of a VHDX, which no guest sees."""
    table_id: str
    partition_ids: tuple[str, ...]


def read_disk_identity(image: Image) -> DiskIdentity:
    """Read the identifiers of the disk, its partition table and its partitions."""
    return DiskIdentity(
        disk_id=image.disk.identifiers.get("VirtualDiskId", ""),
        table_id=image.partition_table.identifier,
        partition_ids=tuple(item.identifier for item in image.partition_table.partitions),
    )


class PlannedImage(NamedTuple):
    """The image: its location, its path on the host that services it, and its state."""

    name: str
    """A path here, or HOST:PATH, as it was named."""
    location: str
    """The whole path here, or HOST:PATH."""
    path: str
    """The path on the host."""
    state: ImageState
    product: str
    version: str
    """The version of its Windows, as 6.3.9600.17031; empty where it is unknown."""
    volume: int
    partition_offset: int
    """The offset of the Windows partition in bytes; 0 without a partition table."""
    disk: DiskIdentity


class PlannedPackage(NamedTuple):
    """The package: its medium, its name there, its identity, and its digests."""

    media: str
    """The path of the medium, as it was named."""
    name: str
    identity: str
    size: int
    """The size of the cabinet in bytes."""
    sha256: str
    """The SHA-256 of the cabinet, in hexadecimal."""
    members: Mapping[str, str]
    """The SHA-256 of each of its files, by name."""
    judgement: str
    """The judgement of `package check`: genuine, unsigned …; empty where nothing is to be done."""


class PlannedStep(NamedTuple):
    """A step by its name, with the facts that are known before the work."""

    name: str
    facts: Facts


class PlanFields(NamedTuple):
    """The fields of Plan."""

    image: PlannedImage
    package: PlannedPackage
    reason: str
    """The rule that chose the package, and its explanation."""
    nothing_to_do: bool
    host: str
    """The name of the host that is to do it."""
    output: str
    """The path of the serviced copy on the host."""
    steps: tuple[PlannedStep, ...] = ()
    warnings: tuple[str, ...] = ()
    """The warnings of the image's readers."""


class Plan(PlanFields, Reportable):
    """The plan of an injection: image, package, host, output, and the steps."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Plan({self.image.name!r}, {self.package.identity!r})"


def read_plan(path: str | Path) -> Plan:
    """Read a plan that `plan --save` wrote. Raises CannotOpen, Corrupt."""
    with FileSource(path) as source:
        data = source.read_at(0, _MAX_PLAN_SIZE + 1)
    if len(data) > _MAX_PLAN_SIZE:
        raise _no_plan(path, f"it has more than {_MAX_PLAN_SIZE:,} bytes")
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError):
        raise _no_plan(path, "it is no JSON") from None
    try:
        return _plan_from(_PlanReader(tree))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise _no_plan(path, reason) from None


def _no_plan(path: str | Path, reason: str) -> Corrupt:
    return Corrupt(f"{path}: this is no plan: {reason}", hint="Make one with `plan --save FILE`.")


class _PlanReader:
    """A JSON object whose fields have the types that are asked for. Raises KeyError, TypeError."""

    def __init__(self, tree: object, name: str = "the document") -> None:
        if not isinstance(tree, dict):
            raise TypeError(f"{name} is no object")
        self._tree = tree
        self._name = name

    def get(self, name: str, kind: type[T]) -> T:
        """Return a field of this type."""
        value = self._tree[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise TypeError(f"{name} of {self._name} is no {kind.__name__}")
        return value

    def object(self, name: str) -> _PlanReader:
        """Return an object."""
        return _PlanReader(self._tree[name], name)

    def objects(self, name: str) -> list[_PlanReader]:
        """Return a list of objects."""
        return [_PlanReader(item, f"an item of {name}") for item in self.get(name, list)]

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        return tuple(_text(item, name) for item in self.get(name, list))

    def text_map(self, name: str) -> dict[str, str]:
        """Return an object whose fields are texts."""
        return {key: _text(value, name) for key, value in self.get(name, dict).items()}


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"an item of {name} is no text")
    return value


def _plan_from(tree: _PlanReader) -> Plan:
    if tree.get("schema", str) != PLAN_SCHEMA:
        raise ValueError(f"its schema is not {PLAN_SCHEMA}")
    return Plan(
        image=_image_from(tree.object("image")),
        package=_package_from(tree.object("package")),
        reason=tree.get("reason", str),
        nothing_to_do=tree.get("nothing_to_do", bool),
        host=tree.get("host", str),
        output=tree.get("output", str),
        steps=tuple(
            PlannedStep(item.get("name", str), item.get("facts", dict))
            for item in tree.objects("steps")
        ),
        warnings=tree.texts("warnings"),
    )


def _image_from(tree: _PlanReader) -> PlannedImage:
    read, disk = tree.object("read"), tree.object("disk")
    ranges = tuple(_range(item) for item in read.get("ranges", list))
    written = tree.get("last_written", object)
    identifiers = tuple(sorted(tree.text_map("identifiers").items()))
    return PlannedImage(
        name=tree.get("name", str),
        location=tree.get("location", str),
        path=tree.get("path", str),
        state=ImageState(
            ImageIdentity(tree.get("size", int), tree.get("format", str), identifiers),
            datetime.fromisoformat(_text(written, "last_written")) if written is not None else None,
            ReadRanges(ranges, read.get("sha256", str)),
        ),
        product=tree.get("product", str),
        version=tree.get("version", str),
        volume=tree.get("volume", int),
        partition_offset=tree.get("partition_offset", int),
        disk=DiskIdentity(
            disk.get("disk_id", str), disk.get("table_id", str), disk.texts("partition_ids")
        ),
    )


def _range(item: object) -> tuple[int, int]:
    if (
        not isinstance(item, list)
        or len(item) != 2
        or not all(type(value) is int and 0 <= value < 1 << 63 for value in item)
    ):
        raise TypeError("an item of ranges is no offset with a length")
    return item[0], item[1]


def _package_from(tree: _PlanReader) -> PlannedPackage:
    return PlannedPackage(
        media=tree.get("media", str),
        name=tree.get("name", str),
        identity=tree.get("identity", str),
        size=tree.get("size", int),
        sha256=tree.get("sha256", str),
        members=tree.text_map("members"),
        judgement=tree.get("judgement", str),
    )


def differences(saved: Plan, fresh: Plan) -> Sequence[str]:
    """Return what a fresh plan has else than a saved one, but for the state of the image."""
    found = []
    if saved.package.sha256 != fresh.package.sha256:
        found.append(f"{fresh.package.media}: the package is another one than was planned")
    pairs = {
        "package": (saved.package, fresh.package),
        "guest": (saved.image[4:], fresh.image[4:]),
        "paths": ((saved.image.path, saved.output), (fresh.image.path, fresh.output)),
        "decision": (saved.nothing_to_do, fresh.nothing_to_do),
        "steps": (saved.steps, fresh.steps),
    }
    found += [f"its {name} would be others now" for name, (a, b) in pairs.items() if a != b]
    return found
