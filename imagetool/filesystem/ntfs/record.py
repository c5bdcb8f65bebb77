"""Records of the master file table, their fix-ups and their attributes.

Linux-NTFS documentation, concepts "Fixup", "File Record", "Attribute Header".
"""

from __future__ import annotations

import struct

from imagetool.errors import Corrupt
from imagetool.filesystem.ntfs import structs as s

FIXUP_STRIDE = 512
"""A fix-up protects 512 bytes, whatever the size of a sector."""

_DAMAGED = "The volume is damaged: let the guest check it (chkdsk), or restore the image."
_RECORD_HEADER = struct.Struct(
    "<4sHH8xHHHHII"
)  # signature, fix-ups, sequence, links, attributes, flags, …
_TYPE_AND_LENGTH = struct.Struct("<II")
_ATTRIBUTE_HEADER = struct.Struct("<IIBBHHH")
_RESIDENT = struct.Struct("<IH")
_NON_RESIDENT = struct.Struct("<QQHHIQQQ")


def apply_fixups(block: bytes, signature: bytes, where: str) -> bytes:
    """Undo the fix-ups of a block: put back the last two bytes of every 512.

    Raises Corrupt, naming `where`, for a wrong signature or a torn write.
    """
    if block[:4] != signature or len(block) < FIXUP_STRIDE:
        raise Corrupt(f"{where} begins with {block[:4]!r} instead of {signature!r}", hint=_DAMAGED)
    offset, count = struct.unpack_from("<HH", block, 4)
    if count != len(block) // FIXUP_STRIDE + 1 or offset + 2 * count > FIXUP_STRIDE - 2:
        raise Corrupt(f"{where} has an update sequence of {count} numbers", hint=_DAMAGED)
    numbers = block[offset : offset + 2 * count]
    # Both bytes of every mark at once: a slice with a stride takes the time of one number.
    for byte in (0, 1):
        if block[FIXUP_STRIDE - 2 + byte :: FIXUP_STRIDE] != numbers[byte : byte + 1] * (count - 1):
            raise Corrupt(f"{where} was not written whole (its update sequence)", hint=_DAMAGED)
    fixed = bytearray(block)
    fixed[FIXUP_STRIDE - 2 :: FIXUP_STRIDE] = numbers[2::2]
    fixed[FIXUP_STRIDE - 1 :: FIXUP_STRIDE] = numbers[3::2]
    return bytes(fixed)


class Attribute:
    """An attribute of a record: resident with its value, or non-resident with its run list."""

    __slots__ = (
        "compression_unit",
        "first_vcn",
        "flags",
        "identifier",
        "initialised_size",
        "last_vcn",
        "name",
        "resident",
        "run_bytes",
        "size",
        "type",
        "value",
    )

    def __init__(self, data: bytes, where: str) -> None:
        self.type, length, non_resident, name_length, name_offset, self.flags, self.identifier = (
            _ATTRIBUTE_HEADER.unpack_from(data)
        )
        self.name = data[name_offset : name_offset + 2 * name_length].decode(
            "utf-16-le", "surrogatepass"
        )
        self.resident = not non_resident
        self.value = self.run_bytes = b""
        self.first_vcn = self.last_vcn = self.compression_unit = 0
        if self.resident:
            if length < 24:
                raise Corrupt(f"{where}: an attribute of {length} bytes", hint=_DAMAGED)
            self.size, offset = _RESIDENT.unpack_from(data, 16)
            self.value = data[offset : offset + self.size]
            self.initialised_size = self.size
            if len(self.value) != self.size:
                raise Corrupt(
                    f"{where}: attribute 0x{self.type:x} ends beyond itself", hint=_DAMAGED
                )
            return
        if length < 64:
            raise Corrupt(f"{where}: an attribute of {length} bytes", hint=_DAMAGED)
        self.first_vcn, self.last_vcn, runs, unit, _, _, self.size, self.initialised_size = (
            _NON_RESIDENT.unpack_from(data, 16)
        )
        self.compression_unit = unit & 0xFF
        self.run_bytes = data[runs:]


class FileRecord:
    """A record of the master file table, its fix-ups applied."""

    __slots__ = (
        "_attributes",
        "_data",
        "_ranges",
        "_where",
        "base_record",
        "flags",
        "number",
        "sequence",
    )

    def __init__(self, number: int, data: bytes, where: str) -> None:
        self.number = number
        self._data = data
        self._where = where
        self._attributes: list[Attribute] | None = None
        self._ranges: list[tuple[int, int, int]] | None = None
        _, _, _, self.sequence, _, _, self.flags, used, _ = _RECORD_HEADER.unpack_from(data)
        if used > len(data):
            raise Corrupt(f"{where}: {used} bytes in use of {len(data)}", hint=_DAMAGED)
        self.base_record = int.from_bytes(data[32:38], "little")

    @property
    def in_use(self) -> bool:
        """True where the record belongs to a file."""
        return bool(self.flags & 1)

    @property
    def is_directory(self) -> bool:
        """True for a directory: it has an index of names."""
        return bool(self.flags & 2)

    def attributes(self) -> list[Attribute]:
        """The attributes in this record itself."""
        if self._attributes is None:
            self._attributes = [
                self._parse_attribute(*item[1:]) for item in self._attribute_ranges()
            ]
        return self._attributes

    def attributes_of_type(self, attribute_type: int) -> list[Attribute]:
        """The attributes of one type; the others are not decoded."""
        return [
            self._parse_attribute(*item[1:])
            for item in self._attribute_ranges()
            if item[0] == attribute_type
        ]

    def _parse_attribute(self, offset: int, length: int) -> Attribute:
        return Attribute(self._data[offset : offset + length], self._where)

    def _attribute_ranges(self) -> list[tuple[int, int, int]]:
        """Type, offset and length of each attribute. Raises Corrupt for one that does not fit."""
        if self._ranges is None:
            ranges: list[tuple[int, int, int]] = []
            data, offset = self._data, int.from_bytes(self._data[20:22], "little")
            # The shortest attribute takes 24 bytes, so a record ends this loop in any case.
            while offset + 8 <= len(data):
                attribute_type, length = _TYPE_AND_LENGTH.unpack_from(data, offset)
                if attribute_type == s.END:
                    break
                if length < 24 or length % 8 or offset + length > len(data):
                    raise Corrupt(
                        f"{self._where}: an attribute of {length} bytes at byte {offset}",
                        hint=_DAMAGED,
                    )
                ranges.append((attribute_type, offset, length))
                offset += length
            self._ranges = ranges
        return self._ranges
