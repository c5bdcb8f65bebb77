"""Cabinets: their members, and the folders that hold them ([MS-CAB]).

A signed cabinet is longer than its header states: the signature follows it. Several cabinets can
form a set, whose folders continue from one to the next. Not supported: Quantum compression.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from imagetool.contracts import Source
from imagetool.disk.declarations import ConstructError
from imagetool.disk.source import read_exactly
from imagetool.errors import Corrupt, NotFound, NotRecognised, Unsupported
from imagetool.package.cab import structs as s
from imagetool.package.cab.folder import DAMAGED, CabinetFolder, FolderPart

_MAX_NAME_LENGTH = 1024
_MAX_READ_SIZE = 64 << 20


@dataclass(frozen=True, slots=True)
class CabinetMember:
    """A file in a cabinet, as its CFFILE entry describes it."""

    name: str
    """With / between directories; unsafe names (.., absolute) are not changed."""
    size: int
    folder: int
    offset: int
    """The offset in the decompressed folder."""


class Cabinet:
    """A cabinet in a source.

    Raises NotRecognised for another format, Corrupt for a damaged or truncated cabinet, Unsupported
    for versions and compression methods that are not implemented.
    """

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._source = source
        head = source.read_at(0, s.HEADER_SIZE)
        if head[:4] != b"MSCF":
            raise NotRecognised(
                f"{source.name}: this is no cabinet (it does not begin with 'MSCF')",
                hint="Name a CAB, or a vmguest.iso.",
            )
        try:
            header = s.Header.parse(head)
        except ConstructError:
            raise self._damaged("the header is cut off") from None
        if header.version_major != 1:
            raise Unsupported(f"{source.name}: cabinets of version {header.version_major}")
        if header.cabinet_size > source.size:
            raise self._damaged(
                f"it ends at offset {source.size}, and should be {header.cabinet_size} bytes long"
            )
        self._end: int = header.cabinet_size
        offset, folder_reserve, self._data_reserve = s.HEADER_SIZE, 0, 0
        self.signature_range: tuple[int, int] | None = None
        if header.flags & s.RESERVE_PRESENT:
            raw = read_exactly(source, offset, 4, "the reserve's sizes")
            reserves = s.Reserves.parse(raw)
            folder_reserve, self._data_reserve = reserves.folder, reserves.data
            self.signature_range = self._read_signature_range(offset + 4, reserves.header)
            offset += 4 + reserves.header
        self.set_id, self.number = header.set_id, header.number_in_set
        names: list[str] = []
        for flag in (s.PREVIOUS_CABINET, s.NEXT_CABINET):
            names.append("")
            for part in range(2 if header.flags & flag else 0):
                raw = self._read_text(offset)
                offset += len(raw) + 1
                if not part:  # the second text is the label of the disk
                    names[-1] = self._decode(raw, False)
        self.previous_cabinet, self.next_cabinet = names
        """File names of the cabinets before and after this one in the set; empty for none."""
        size = s.FOLDER_SIZE + folder_reserve
        table = read_exactly(source, offset, size * header.folder_count, "the folders")
        self._folders = [
            self._folder(number, table[number * size : number * size + s.FOLDER_SIZE])
            for number in range(header.folder_count)
        ]
        self.members = self._read_members(header.files_offset, header.file_count)
        self.is_in_set = bool(header.flags & (s.PREVIOUS_CABINET | s.NEXT_CABINET))
        self._by_name: dict[str, CabinetMember] = {}

    def _folder(self, number: int, raw: bytes) -> CabinetFolder:
        fields = s.Folder.parse(raw)
        part = FolderPart(self._source, fields.data_offset, fields.block_count, self._data_reserve)
        return CabinetFolder(f"{self.name}: folder {number}", fields.compression, part)

    def _damaged(self, reason: str) -> Corrupt:
        return Corrupt(f"{self.name}: {reason}", hint=DAMAGED)

    def _read_signature_range(self, offset: int, size: int) -> tuple[int, int] | None:
        """Read the offset and size of the signature; None if the cabinet has none."""
        if size != 20:
            return None
        raw = read_exactly(self._source, offset, 20, "the reserve")
        reserve = s.SignatureReserve.parse(raw)
        if not reserve.size or reserve.offset + reserve.size > self._source.size:
            return None
        return reserve.offset, reserve.size

    def _read_text(self, offset: int) -> bytes:
        raw = self._source.read_at(offset, _MAX_NAME_LENGTH)
        end = raw.find(b"\0")
        if end < 0:
            raise self._damaged(f"a name at offset {offset} does not end")
        return raw[:end]

    def _read_members(self, offset: int, count: int) -> tuple[CabinetMember, ...]:
        # The list states no length in bytes, so it is read in pieces, each longer than an entry.
        data = self._source.read_at(offset, min(count * 64 + _MAX_NAME_LENGTH, 8 << 20))
        members: list[CabinetMember] = []
        position = 0
        for _ in range(count):
            if (
                len(data) - position < s.FILE.size + _MAX_NAME_LENGTH
                and offset + len(data) < self._end
            ):
                offset, position = offset + position, 0
                data = self._source.read_at(offset, 1 << 15)
            end = data.find(
                b"\0", position + s.FILE.size, position + s.FILE.size + _MAX_NAME_LENGTH
            )
            if end < 0:
                raise self._damaged(f"the entry of a file at offset {offset + position} is cut off")
            size, start, folder, _, _, attributes = s.FILE.unpack_from(data, position)
            raw = data[position + s.FILE.size : end]
            name = self._decode(raw, bool(attributes & s.NAME_IS_UTF8))
            if folder < s.FIRST_CONTINUED and folder >= len(self._folders):
                raise self._damaged(f"{name} lies in folder {folder}, which does not exist")
            members.append(CabinetMember(name.replace("\\", "/"), size, folder, start))
            position = end + 1
        return tuple(members)

    @staticmethod
    def _decode(raw: bytes, is_utf8: bool) -> str:
        return raw.decode("utf-8", "replace") if is_utf8 else raw.decode("cp1252", "replace")

    def find(self, name: str) -> CabinetMember | None:
        """Find a member by name: exactly, else ignoring case."""
        plain = name.replace("\\", "/")
        if not self._by_name:
            for key in (str, str.lower):
                for item in self.members:
                    self._by_name.setdefault(key(item.name), item)
        return self._by_name.get(plain) or self._by_name.get(plain.lower())

    def read(self, member: CabinetMember | str) -> bytes:
        """Read a member, all at once. Raises NotFound, Corrupt, Unsupported, BudgetSpent."""
        found = self._find(member)
        if found.size > _MAX_READ_SIZE:
            raise Unsupported(
                f"{self.name}: {found.name} has {found.size} bytes, and is not read at once",
                hint="`imagetool package extract` writes it into a file.",
            )
        return b"".join(self.chunks(found))

    def chunks(self, member: CabinetMember | str) -> Iterator[bytes]:
        """Read a member in pieces. Raises NotFound, Corrupt, Unsupported, BudgetSpent."""
        found = self._find(member)
        return self._folders[found.folder].chunks(found.name, found.offset, found.size)

    def _find(self, member: CabinetMember | str) -> CabinetMember:
        """The member. Raises NotFound, and Unsupported where a part of it is missing."""
        found = self.find(member) if isinstance(member, str) else member
        if found is None:
            raise NotFound(
                f"{self.name}: there is no file {member} in it",
                hint="`imagetool package list` shows what is there.",
            )
        if found.folder >= s.FIRST_CONTINUED:
            other = (
                self.previous_cabinet
                if found.folder == s.CONTINUED_FROM_PREVIOUS
                else self.next_cabinet
            )
            raise Unsupported(
                f"{self.name}: {found.name} lies in another cabinet of its set, too: {other}",
                hint="Put all cabinets of the set beside it, under the names that they had.",
            )
        return found

    def join(self, before: Sequence[Cabinet], after: Sequence[Cabinet]) -> None:
        """Merge the other cabinets of the set, in their order, into this one.

        A folder may continue in the next cabinet; a file is listed in every cabinet that holds a
        part of it.
        """
        parts = [*before, self, *after]
        folders: list[CabinetFolder] = []
        members: list[CabinetMember] = []
        for index, part in enumerate(parts):
            last = len(part._folders) - 1
            carried = index > 0 and any(
                item.folder in (s.CONTINUED_FROM_PREVIOUS, s.CONTINUED_BOTH)
                for item in part.members
            )
            if carried and part._folders and folders:
                folders[-1].continue_in(part._folders[0])
            first = len(folders) - (1 if carried else 0)
            folders += part._folders[1 if carried else 0 :]
            for item in part.members:
                if item.folder < s.FIRST_CONTINUED:
                    members.append(replace(item, folder=first + item.folder))
                elif index == 0 or item.folder == s.CONTINUED_TO_NEXT:
                    # Without the last part the entry stays as it is, and read() reports that.
                    whole = _ends_within(item.name, parts[index + 1 :])
                    members.append(replace(item, folder=first + last) if whole else item)
        self._folders = folders
        self.members = tuple(members)
        self._by_name.clear()
        self.previous_cabinet, self.next_cabinet = parts[0].previous_cabinet, parts[-1].next_cabinet


def _ends_within(name: str, parts: Sequence[Cabinet]) -> bool:
    """True if a file that continues in these cabinets ends in one of them."""
    for part in parts:
        kinds = {item.folder for item in part.members if item.name == name}
        if s.CONTINUED_FROM_PREVIOUS in kinds:
            return True
        if s.CONTINUED_BOTH not in kinds:
            return False
    return False
