"""A disc: which of its sides is read, and what the others show instead."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from imagetool.contracts import Source
from imagetool.errors import Corrupt
from imagetool.package.disc.iso9660 import read_iso_sides
from imagetool.package.disc.side import SECTOR, DiscFile, Side, damaged
from imagetool.package.disc.udf import read_udf_side

_DESCRIPTORS_OFFSET = 16 * SECTOR
_STANDARDS = (b"CD001", b"BEA01", b"NSR02", b"NSR03")
_CABINET = b"MSCF"


def is_disc(source: Source) -> bool:
    """True if the source has volume descriptors of ISO 9660 or UDF (ECMA-119, ECMA-167)."""
    return source.read_at(_DESCRIPTORS_OFFSET + 1, 5) in _STANDARDS


class Disc:
    """The files of a disc by the side that Windows prefers: UDF, Joliet, then the others.

    A side that cannot be read does not refuse another. Raises the first side's error if none can
    be read: Corrupt, Unsupported, BudgetSpent.
    """

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._source = source
        self.budget = source.budget
        with self.budget:
            udf = read_udf_side(source)
            self.sides: tuple[Side, ...] = (*([udf] if udf else []), *read_iso_sides(source))
        sound = [side for side in self.sides if side.error is None]
        if not sound:
            for side in self.sides:
                if side.error is not None:
                    raise side.error
            raise damaged(self.name, "it has no volume descriptor")
        self.side = next((side for side in sound if side.files), sound[0])
        """The side that is read: the first sound one that has files."""
        self.files = self.side.files

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each side that cannot be read, with the reason."""
        return tuple(
            f"the {side.name} side of the disc is not read: "
            + side.error.message.removeprefix(f"{self.name}: ")
            for side in self.sides
            if side.error is not None
        )

    @cached_property
    def only_elsewhere(self) -> tuple[tuple[str, DiscFile], ...]:
        """Files whose bytes no file of the side that is read has: the other side's name, and they.

        The same bytes by another name are the same file: ISO 9660 shortens names.
        """
        known = {file.extents for file in self.files}
        found: dict[object, tuple[str, DiscFile]] = {}
        for side in self.sides:
            for file in side.files:
                if side is not self.side and file.size and file.extents not in known:
                    found.setdefault(file.extents, (side.name, file))
        return tuple(found.values())

    def doubts(self) -> Iterator[str]:
        """Reasons for which a system may read another package than the side that is read has."""
        yield from self.warnings
        shown = tuple(dict.fromkeys(file.path for file in self._shown_otherwise()))
        if shown:
            more = f", and {len(shown) - 1} more" if len(shown) > 1 else ""
            yield f"the disc shows other files to other systems: {shown[0]}{more}"

    def _shown_otherwise(self) -> Iterator[DiscFile]:
        """Cabinets that another side has alone, and paths by which it has other bytes."""
        listed: dict[str, DiscFile] = {}
        for file in self.files:
            first = listed.setdefault(file.path.lower(), file)
            if first.extents != file.extents and (self.is_cabinet(first) or self.is_cabinet(file)):
                yield file
        for _, file in self.only_elsewhere:
            if self.is_cabinet(file):
                yield file
        for side in self.sides:
            for file in side.files if side is not self.side else ():
                own = listed.get(file.path.lower())
                if own is not None and own.extents != file.extents and self.is_cabinet(own):
                    yield file

    def is_cabinet(self, file: DiscFile) -> bool:
        """True if a file begins as a cabinet does; also if that cannot be seen."""
        if file.target is not None or file.refusal or file.size < len(_CABINET):
            return False
        try:
            return self.open(file).read_at(0, len(_CABINET)) == _CABINET
        except Corrupt:
            return True

    def open(self, file: DiscFile) -> Source:
        """Open a file as a source. Raises as DiscFile.open."""
        return file.open(self._source)
