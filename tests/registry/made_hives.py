"""Hives made for tests: cells appended to one bin, for the shapes that no tool writes."""

from __future__ import annotations

import struct

from imagetool.registry.structs import checksum

NONE = 0xFFFFFFFF
_KEY_FIELDS = "<2sHQ15IHH"


class MadeHive:
    """A hive under construction: `add` gives the offset of a cell, `finish` the hive's bytes."""

    def __init__(self) -> None:
        self._bins = bytearray(b"hbin" + bytes(28))

    def add(self, data: bytes) -> int:
        """Append a cell; return its offset."""
        offset = len(self._bins)
        size = -(-(len(data) + 4) // 8) * 8
        self._bins += struct.pack("<i", -size) + data.ljust(size - 4, b"\0")
        return offset

    def add_key(
        self, name: str, subkeys: tuple[int, int] = (0, NONE), values: tuple[int, int] = (0, NONE)
    ) -> int:
        """A key; lists are given as their count and offset."""
        raw = name.encode("utf-16-le", "surrogatepass")
        fields = (b"nk", 0, 0, 0, NONE, subkeys[0], 0, subkeys[1], NONE, *values, NONE, NONE,
                  0, 0, 0, 0, 0, len(raw), 0)  # fmt: skip
        return self.add(struct.pack(_KEY_FIELDS, *fields) + raw)

    def add_value(self, name: str, kind: int, size: int, data: int) -> int:
        """A value; `data` is the offset of its cell, or the data itself where `size` says so."""
        raw = name.encode("utf-16-le", "surrogatepass")
        return self.add(struct.pack("<2sHIIIHH", b"vk", len(raw), size, data, kind, 0, 0) + raw)

    def add_offsets(self, head: bytes, offsets: list[int]) -> int:
        """A list of offsets behind a head."""
        return self.add(head + struct.pack(f"<{len(offsets)}I", *offsets))

    def add_list(self, kind: bytes, offsets: list[int]) -> int:
        """A list of subkeys (li), or of lists (ri)."""
        return self.add_offsets(struct.pack("<2sH", kind, len(offsets)), offsets)

    def finish(self, root: int, minor: int = 5) -> bytes:
        """The hive whose root key is at `root`."""
        self._bins += bytes(-len(self._bins) % 4096)
        struct.pack_into("<II", self._bins, 4, 0, len(self._bins))
        head = bytearray(4096)
        fields = (b"regf", 1, 1, 0, 1, minor, 0, 1, root, len(self._bins), 1)
        struct.pack_into("<4sIIQIIIIIII", head, 0, *fields)
        struct.pack_into("<I", head, 508, checksum(head))
        return bytes(head + self._bins)
